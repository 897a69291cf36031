// What follows the sums over slices in both derivatives of norm_act: totals of channels, means of
// groups, and gradients of the affine parameters.
#pragma once

#include <cstdint>

#include "core/norm_act.h"
#include "cuda/norm_act/walk.cuh"

namespace fastgan::cuda {

// Threads of a block that finishes one group: a warp takes a channel at a time.
constexpr int kFinishThreads = 128;
constexpr int kFinishWarps = kFinishThreads / 32;

// Sums over the slices of one channel, the same in every lane of the warp.
template <int kCount, class A>
__device__ void channel_totals(const NormActGrid& grid,
                               const A* partial /* [B, C, kCount, slices] */, int64_t b, int64_t c,
                               double (&totals)[kCount]) {
  const A* from = partial + (b * grid.C + c) * kCount * grid.slices;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    double sum = 0;
    for (int64_t i = threadIdx.x % 32; i < grid.slices; i += 32) sum += from[k * grid.slices + i];
    totals[k] = warp_sum(sum);
  }
}

// Adds up what the warps have found, in their order. Takes kCount * kFinishWarps of shared memory.
template <int kCount>
__device__ void sum_over_warps(double (&values)[kCount]) {
  double* shared = shared_memory<double>();
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    if (threadIdx.x % 32 == 0) shared[k * kFinishWarps + threadIdx.x / 32] = values[k];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    values[k] = 0;
    for (int i = 0; i < kFinishWarps; ++i) values[k] += shared[k * kFinishWarps + i];
  }
}

// Writes the gradients of one or two affine parameters from their values for each sample,
// [B, C] each; a null destination is passed over. Returns cudaError_t.
cudaError_t write_affine_gradients(const NormActGrid& grid, const NormActAffineGradient& first,
                                   const double* first_values, const NormActAffineGradient& second,
                                   const double* second_values, void* stream);

}  // namespace fastgan::cuda
