// One bug for each tool of compute-sanitizer, which must report it before its silence counts.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

// memcheck: the last thread writes one past the end.
__global__ void out_of_bounds_kernel(float* out, int n) {
  const int i = threadIdx.x + 1;
  if (i <= n) out[i] = 1.0f;
}

// racecheck: neighbours are read without a barrier.
__global__ void race_kernel(float* out) {
  __shared__ float values[64];
  values[threadIdx.x] = float(threadIdx.x);
  out[threadIdx.x] = values[63 - threadIdx.x];
}

// initcheck: nothing was written to `in`.
__global__ void uninitialised_kernel(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x];
}

int main(int argc, char** argv) {
  const char* tool = argc > 1 ? argv[1] : "";
  float *in = nullptr, *out = nullptr;
  cudaMalloc(&in, 64 * sizeof(float));
  cudaMalloc(&out, 64 * sizeof(float));
  if (std::strcmp(tool, "memcheck") == 0) {
    out_of_bounds_kernel<<<1, 64>>>(out, 64);
  } else if (std::strcmp(tool, "racecheck") == 0) {
    race_kernel<<<1, 64>>>(out);
  } else if (std::strcmp(tool, "initcheck") == 0) {
    uninitialised_kernel<<<1, 64>>>(in, out);
  } else {
    std::fprintf(stderr, "usage: planted memcheck|racecheck|initcheck\n");
    return 2;
  }
  cudaDeviceSynchronize();
  return 0;
}
