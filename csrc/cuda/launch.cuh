// How kernels are launched and where they find their shared memory. Plain C++ syntax throughout, so
// that a test build can compile the same sources for the CPU (csrc/emulation).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace fastgan::cuda {

// Launches a kernel that takes one struct. Returns cudaError_t.
template <class Params>
cudaError_t launch(void (*kernel)(Params), int64_t blocks, int threads, size_t shared_bytes,
                   const Params& params, void* stream) {
  if (blocks <= 0) return cudaSuccess;
  // the grid's x alone goes beyond 65535 blocks
  if (blocks > 0x7fffffff) return cudaErrorInvalidConfiguration;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, kernel, params);
}

// Blocks that a large volume is cut into: about 8 for each of 132 multiprocessors. The emulation
// sets fewer, so that a small volume is walked as a large one is.
inline int64_t most_blocks() {
#ifdef __CUDACC__
  return 1024;
#else
  return emulation::most_blocks();
#endif
}

// The block's dynamic shared memory.
template <class T>
__device__ T* shared_memory() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char fastgan_shared[];
  return reinterpret_cast<T*>(fastgan_shared);
#else
  return static_cast<T*>(emulation::shared_memory());
#endif
}

}  // namespace fastgan::cuda
