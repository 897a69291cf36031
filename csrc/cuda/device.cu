#include <cuda_runtime.h>

#include <cstring>

#include "cuda/device.h"

namespace fastgan::cuda {
namespace {

constexpr int kProbeAnswer = 0x66617374;

// One thread writes one word: the smallest kernel whose result can be checked.
__global__ void probe_kernel(int* __restrict__ answer) { *answer = kProbeAnswer; }

// Runs probe_kernel on the current device and checks what it wrote.
cudaError_t run_probe() {
  int* answer = nullptr;
  cudaError_t error = cudaMalloc(&answer, sizeof(int));
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(1);
  error = cudaLaunchKernelEx(&config, probe_kernel, answer);
  int host = 0;
  if (error == cudaSuccess) {
    error = cudaMemcpy(&host, answer, sizeof(int), cudaMemcpyDeviceToHost);
  }
  cudaFree(answer);
  if (error == cudaSuccess && host != kProbeAnswer) error = cudaErrorUnknown;
  return error;
}

}  // namespace

int versions(int* driver, int* runtime) {
  const cudaError_t error = cudaDriverGetVersion(driver);
  return error == cudaSuccess ? cudaRuntimeGetVersion(runtime) : error;
}

int device_count(int* count) {
  *count = 0;
  const cudaError_t error = cudaGetDeviceCount(count);
  // the runtime keeps the last error; clear it so that no later launch reports this one
  if (error != cudaSuccess) cudaGetLastError();
  return error;
}

int describe_device(int device, DeviceInfo* info) {
  *info = DeviceInfo{};
  int before = 0;
  cudaError_t error = cudaGetDevice(&before);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  cudaDeviceProp properties;
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
  if (error == cudaSuccess) {
    std::strncpy(info->name, properties.name, sizeof(info->name) - 1);
    info->major = properties.major;
    info->minor = properties.minor;
    info->total_memory = static_cast<int64_t>(properties.totalGlobalMem);
    info->multiprocessors = properties.multiProcessorCount;
    cudaFuncAttributes attributes{};
    cudaError_t code = cudaFuncGetAttributes(&attributes, probe_kernel);
    if (code == cudaSuccess) {
      info->binary_version = attributes.binaryVersion;
      info->ptx_version = attributes.ptxVersion;
      code = run_probe();
    }
    info->code_error = code;
  }
  cudaSetDevice(before);
  cudaGetLastError();
  return error;
}

int set_device(int device, int* before) {
  const cudaError_t error = cudaGetDevice(before);
  return error == cudaSuccess && *before != device ? cudaSetDevice(device) : error;
}

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace fastgan::cuda
