// Statistics of the groups by Welford's recurrence, and their application.
#include <cstdint>

#include "cuda/arena.h"
#include "cuda/norm_act/norm_act.h"
#include "cuda/norm_act/walk.cuh"

namespace fastgan::cuda {
namespace {

// Rows that a thread reads at once.
constexpr int kMomentsRows = 4, kApplyRows = 4;

// A count, the mean of so many values and the sum of their squared distances from it.
template <class A>
struct Moments {
  A count, mean, m2;

  // Chan, Golub and LeVeque: moments of the union.
  __device__ void merge(A other_count, A other_mean, A other_m2) {
    if (other_count == A(0)) return;
    const A total = count + other_count;
    const A share = other_count / total;
    const A distance = other_mean - mean;
    mean += distance * share;
    m2 += other_m2 + distance * distance * count * share;
    count = total;
  }
};

template <class T>
struct MomentsParams {
  NormActGrid grid;
  const T* x;           // [B, S, C] or [B, C, S]
  Compute<T>* partial;  // [B, C, 2, slices] output: mean less shift, squares about the mean
};

// The first voxel of a channel. Less it, values far from zero lose nothing to the rounding of a
// mean.
template <class T>
__device__ Compute<T> shift_of(const NormActGrid& grid, const T* x, int64_t b, int64_t c) {
  return load(x[grid.lane_step ? b * grid.S * grid.C + c : (b * grid.C + c) * grid.S]);
}

// One block per (sample, tile of channels, slice).
template <class T, int V>
__global__ void __launch_bounds__(kNormThreads, kNormBlocks)
    norm_act_moments_kernel(const __grid_constant__ MomentsParams<T> p) {
  using A = Compute<T>;
  const NormActGrid& grid = p.grid;
  const NormActWalk walk(grid, blockIdx.x);
  A shift[V] = {}, mean[V] = {}, m2[V] = {};
  A count = 0;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const int64_t c = walk.channel + i * grid.lane_step;
    if (walk.participates) shift[i] = shift_of(grid, p.x, walk.b, c);
  }
  for_rows<kMomentsRows, T, V>(walk, {p.x}, [&](const auto& row, int64_t) {
    A x[V];
    row.values(0, x);
    count += A(1);
    const A share = A(1) / count;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A value = x[i] - shift[i];
      const A distance = value - mean[i];
      mean[i] += distance * share;
      m2[i] += distance * (value - mean[i]);
    }
  });
  A* shared = shared_memory<A>();
  constexpr int kPitch = kNormThreads * V;
  const int lanes = grid.lane_step ? V : 1;
  if (!grid.lane_step) {
    Moments<A> all{count, mean[0], m2[0]};
#pragma unroll
    for (int i = 1; i < V; ++i) all.merge(count, mean[i], m2[i]);
    count = all.count, mean[0] = all.mean, m2[0] = all.m2;
  }
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const int to = static_cast<int>(threadIdx.x) * lanes + i;
    if (i < lanes)
      shared[to] = count, shared[kPitch + to] = mean[i], shared[2 * kPitch + to] = m2[i];
  }
  const int width = grid.width();
  fold_rows<kNormThreads>(grid.rows_at_once(), width, [&](int a, int b) {
    Moments<A> all{shared[a], shared[kPitch + a], shared[2 * kPitch + a]};
    all.merge(shared[b], shared[kPitch + b], shared[2 * kPitch + b]);
    shared[a] = all.count, shared[kPitch + a] = all.mean, shared[2 * kPitch + a] = all.m2;
  });
  for (int i = threadIdx.x; i < width; i += kNormThreads) {
    const int64_t c = walk.tile * width + i;
    if (c >= grid.C) break;
    A* to = partial_of(p.partial, grid, walk.b, c, 2);
    to[walk.slice] = shared[kPitch + i];
    to[grid.slices + walk.slice] = shared[2 * kPitch + i];
  }
}

template <class T>
struct StatisticsParams {
  using A = Compute<T>;
  NormActGrid grid;
  const T* x;        // [B, S, C] or [B, C, S]
  const A* partial;  // [B, C, 2, slices]
  double eps;
  A* mean;  // [B, G] output
  A* rstd;  // [B, G] output
};

// One block per (sample, group).
template <class T>
__global__ void __launch_bounds__(kNormThreads, kNormBlocks)
    norm_act_statistics_kernel(const __grid_constant__ StatisticsParams<T> p) {
  using A = Compute<T>;
  const NormActGrid& grid = p.grid;
  double* shared = shared_memory<double>();
  const int64_t b = blockIdx.x / grid.G, group = blockIdx.x % grid.G;
  const int64_t channels = grid.C / grid.G, items = channels * grid.slices;
  const A* partial = partial_of(p.partial, grid, b, group * channels, 2);
  // calls visit(voxels, mean, sum of squares about it) for the slices of every channel
  const auto each = [&](const auto& visit) {
    for (int64_t i = threadIdx.x; i < items; i += kNormThreads) {
      const int64_t c = i / grid.slices, slice = i % grid.slices;
      const A* moments = partial + c * 2 * grid.slices + slice;
      const double shift = shift_of(grid, p.x, b, group * channels + c);
      visit(static_cast<double>(grid.voxels_of(slice)), shift + moments[0], moments[grid.slices]);
    }
  };
  double sum = 0;
  each([&](double voxels, double mean, double) { sum += voxels * mean; });
  const double m = static_cast<double>(channels) * static_cast<double>(grid.S);
  const double center = block_sum<kNormThreads>(sum, shared) / m;
  double m2 = 0;
  each([&](double voxels, double mean, double squares) {
    m2 += squares + voxels * (mean - center) * (mean - center);
  });
  __syncthreads();
  m2 = block_sum<kNormThreads>(m2, shared);
  if (threadIdx.x == 0) {
    p.mean[blockIdx.x] = static_cast<A>(center);
    p.rstd[blockIdx.x] = static_cast<A>(1 / sqrt(m2 / m + p.eps));
  }
}

template <class T>
struct ApplyParams {
  NormActGrid grid;
  const T* x;              // [B, S, C] or [B, C, S]
  T* y;                    // like x, output
  const Compute<T>* mean;  // [B, G]
  const Compute<T>* rstd;  // [B, G]
  NormActAffine weight, bias;
  Compute<T> negative_slope;
};

// One block per (sample, tile of channels, slice), the last first: the L2 cache holds what the
// statistics have read last.
template <class T, int V>
__global__ void __launch_bounds__(kNormThreads, kNormBlocks)
    norm_act_apply_kernel(const __grid_constant__ ApplyParams<T> p) {
  using A = Compute<T>;
  const NormActWalk walk(p.grid, gridDim.x - 1 - blockIdx.x);
  const NormActConstants<A, V> c(p.grid, walk, p.mean, p.rstd, p.weight, p.bias);
  if (!walk.participates) return;
  for_rows<kApplyRows, T, V>(walk, {p.x}, [&](const auto& row, int64_t at) {
    A value[V];
    row.values(0, value);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A z = norm_act_z(value[i] - c.mean[i], c.scale[i], c.bias[i]);
      value[i] = z * norm_act_slope(z, p.negative_slope);
    }
    store_global(p.y + at, value);
  });
}

template <class T, int V>
cudaError_t statistics(const NormActFwdParams& p, void* workspace, void* stream) {
  using A = Compute<T>;
  const NormActGrid grid(p.shape, V);
  A* partial = static_cast<A*>(workspace);
  const T* x = static_cast<const T*>(p.x);
  const cudaError_t error =
      launch(norm_act_moments_kernel<T, V>, grid.blocks(), kNormThreads,
             3 * kNormThreads * V * sizeof(A), MomentsParams<T>{grid, x, partial}, stream);
  if (error != cudaSuccess) return error;
  const StatisticsParams<T> params{
      grid, x, partial, p.eps, static_cast<A*>(p.mean), static_cast<A*>(p.rstd)};
  return launch(norm_act_statistics_kernel<T>, grid.B * grid.G, kNormThreads,
                kNormThreads / 32 * sizeof(double), params, stream);
}

template <class T, int V>
cudaError_t apply(const NormActFwdParams& p, void* stream) {
  using A = Compute<T>;
  const NormActGrid grid(p.shape, V);
  const ApplyParams<T> params{grid,
                              static_cast<const T*>(p.x),
                              static_cast<T*>(p.y),
                              static_cast<const A*>(p.mean),
                              static_cast<const A*>(p.rstd),
                              p.weight,
                              p.bias,
                              static_cast<A>(p.negative_slope)};
  return launch(norm_act_apply_kernel<T, V>, grid.blocks(), kNormThreads,
                NormActConstants<A, V>::shared_bytes(grid), params, stream);
}

}  // namespace

int64_t norm_act_fwd_workspace(const NormActShape& shape) {
  Arena arena;
  if (shape.empty()) return 0;
  by_dtype(shape.dtype, [&](auto type) {
    arena.take<Compute<decltype(type)>>(shape.B * shape.C * 2 * NormActGrid::count_slices(shape));
  });
  return arena.bytes();
}

int norm_act_statistics(const NormActFwdParams& params, void* workspace, void* stream) {
  if (params.shape.empty()) return cudaSuccess;
  return by_row_width(params.shape, wide_aligned(params.x), [&](auto type, auto width) {
    return statistics<decltype(type), width>(params, workspace, stream);
  });
}

int norm_act_apply(const NormActFwdParams& params, void* stream) {
  if (params.shape.empty()) return cudaSuccess;
  return by_row_width(params.shape, wide_aligned(params.x, params.y), [&](auto type, auto width) {
    return apply<decltype(type), width>(params, stream);
  });
}

int norm_act_fwd(const NormActFwdParams& params, void* workspace, void* stream) {
  const int error = norm_act_statistics(params, workspace, stream);
  return error != cudaSuccess ? error : norm_act_apply(params, stream);
}

}  // namespace fastgan::cuda
