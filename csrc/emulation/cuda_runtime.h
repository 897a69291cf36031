// Stands in for the CUDA toolkit's header of this name where kernels are compiled as C++ and run on
// the CPU, every CUDA thread a fiber (scheduler.h). What is not here does not compile: kernels are
// launched by cudaLaunchKernelEx and have dynamic shared memory alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <tuple>
#include <utility>

#include "emulation/memory.h"
#include "emulation/scheduler.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

inline constexpr const emulation::dim3& threadIdx = emulation::builtins.thread;
inline constexpr const emulation::dim3& blockIdx = emulation::builtins.block;
inline constexpr const emulation::dim3& blockDim = emulation::builtins.block_dim;
inline constexpr const emulation::dim3& gridDim = emulation::builtins.grid_dim;

using emulation::dim3;

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,
};
using cudaStream_t = void*;

struct cudaLaunchAttribute {};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

inline cudaError_t cudaGetLastError() { return cudaSuccess; }

template <class... Parameters>
struct KernelCall {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> values;

  static void run(void* self) {
    const auto* call = static_cast<const KernelCall*>(self);
    std::apply(call->kernel, call->values);
  }
};

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  using Call = KernelCall<Parameters...>;
  Call call{kernel, {std::forward<Arguments>(arguments)...}};
  const emulation::Launch launch{
      config->gridDim, config->blockDim, config->dynamicSmemBytes, &Call::run, &call,
      sizeof(call),    config->stream};
  return static_cast<cudaError_t>(emulation::run(launch));
}

// Barriers and warp collectives: `where` tells one place in the source from another.
inline void __syncthreads(std::source_location where = std::source_location::current()) {
  emulation::wait_for_block(where);
}

inline void __syncwarp(unsigned mask = 0xffffffffu,
                       std::source_location where = std::source_location::current()) {
  emulation::wait_for_warp(mask, where);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask,
                  std::source_location where = std::source_location::current()) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulation::read_lane(mask, "__shfl_xor_sync", bits, emulation::lane() ^ lane_mask, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source,
              std::source_location where = std::source_location::current()) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulation::read_lane(mask, "__shfl_sync", bits, source & 31, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return emulation::ballot(mask, predicate != 0, where);
}

template <class T>
__attribute__((no_sanitize("thread"))) T atomicAdd(T* address, T value) {
  emulation::touch(address, sizeof(T), emulation::Access::kAtomic);
  const T before = *address;
  *address = before + value;
  return before;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
