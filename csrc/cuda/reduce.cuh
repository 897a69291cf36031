// Sums over a block in an order that depends on nothing but the sizes.
#pragma once

#include <cstdint>

#include "cuda/launch.cuh"

namespace fastgan::cuda {

constexpr unsigned kFullWarp = 0xffffffffu;

// Sum over a warp, the same bits in every lane.
template <class A>
__device__ __forceinline__ A warp_sum(A value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, lanes);
  }
  return value;
}

// Sum over a block of kThreads, the same bits in every thread. shared: [kThreads / 32]; free again
// after the next barrier.
template <int kThreads, class A>
__device__ __forceinline__ A block_sum(A value, A* shared) {
  static_assert(kThreads % 32 == 0);
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  A sum = 0;
  for (int i = 0; i < kThreads / 32; ++i) sum += shared[i];
  return sum;
}

// Adds up rows of `width` values each, leaving the sum of all in row 0, and calls
// merge(place in row a, place in row b) for each pair. shared is visible to the block on return.
template <int kThreads, class Merge>
__device__ __forceinline__ void fold_rows(int rows, int width, const Merge& merge) {
  __syncthreads();
  while (rows > 1) {
    const int half = (rows + 1) / 2;
    for (int i = threadIdx.x; i < (rows - half) * width; i += kThreads) merge(i, i + half * width);
    rows = half;
    __syncthreads();
  }
}

}  // namespace fastgan::cuda
