// First derivative of norm_act: sums over slices, means of groups, application.
#include <cstdint>

#include "cuda/arena.h"
#include "cuda/norm_act/finish.cuh"
#include "cuda/norm_act/norm_act.h"
#include "cuda/norm_act/walk.cuh"

namespace fastgan::cuda {
namespace {

constexpr int kSums = 2, kCoefficients = 3;
// Rows that a thread reads at once.
constexpr int kRows = 4;

template <class T>
struct BwdParams {
  using A = Compute<T>;
  NormActGrid grid;
  const T* g;     // [B, S, C] or [B, C, S]
  const T* x;     // like g
  const A* mean;  // [B, G]
  const A* rstd;  // [B, G]
  NormActAffine weight, bias;
  A negative_slope;
  A* partial;       // [B, C, kSums, slices]: u, u (x - mean)
  double* totals;   // [kSums, B, C]: u, u xh
  A* coefficients;  // [B, C, kCoefficients]
  T* d_x;           // like g, output
};

// One block per (sample, tile of channels, slice).
template <class T, int V>
__global__ void __launch_bounds__(kNormThreads, kNormBlocks)
    norm_act_bwd_sums_kernel(const __grid_constant__ BwdParams<T> p) {
  using A = Compute<T>;
  const NormActWalk walk(p.grid, blockIdx.x);
  const NormActConstants<A, V> c(p.grid, walk, p.mean, p.rstd, p.weight, p.bias);
  A sums[kSums][V] = {};
  for_rows<kRows, T, V>(walk, {p.g, p.x}, [&](const auto& row, int64_t) {
    A g[V], x[V];
    row.values(0, g);
    row.values(1, x);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A centred = x[i] - c.mean[i];
      const A z = norm_act_z(centred, c.scale[i], c.bias[i]);
      const A u = g[i] * norm_act_slope(z, p.negative_slope);
      sums[0][i] += u;
      sums[1][i] += u * centred;
    }
  });
  write_partial_sums(p.grid, walk, sums, p.partial);
}

// One block per (sample, group).
template <class T>
__global__ void __launch_bounds__(kFinishThreads)
    norm_act_bwd_finish_kernel(const __grid_constant__ BwdParams<T> p) {
  const NormActGrid& grid = p.grid;
  const int64_t b = blockIdx.x / grid.G, group = blockIdx.x % grid.G;
  const int64_t channels = grid.C / grid.G, first = group * channels, last = first + channels;
  const double rstd = p.rstd[blockIdx.x];
  double means[2] = {};
  for (int64_t c = first + threadIdx.x / 32; c < last; c += kFinishWarps) {
    double totals[kSums];
    channel_totals(grid, p.partial, b, c, totals);
    totals[1] *= rstd;
    const double weight = affine_at(p.weight, 1.0, b, c, grid.C);
#pragma unroll
    for (int k = 0; k < kSums; ++k) {
      means[k] += weight * totals[k];
      if (threadIdx.x % 32 == 0) p.totals[(k * grid.B + b) * grid.C + c] = totals[k];
    }
  }
  sum_over_warps(means);
  const double m = static_cast<double>(channels) * static_cast<double>(grid.S);
  const NormActBwdMeans of_group{means[0] / m, means[1] / m};
  for (int64_t c = first + threadIdx.x; c < last; c += kFinishThreads) {
    const double weight = affine_at(p.weight, 1.0, b, c, grid.C);
    const NormActBwdCoefficients of_channel = norm_act_bwd_coefficients(weight, rstd, of_group);
    Compute<T>* to = p.coefficients + (b * grid.C + c) * kCoefficients;
    to[0] = static_cast<Compute<T>>(of_channel.u);
    to[1] = static_cast<Compute<T>>(of_channel.centred);
    to[2] = static_cast<Compute<T>>(of_channel.one);
  }
}

// One block per (sample, tile of channels, slice), the last first, as the sums left the cache.
template <class T, int V>
__global__ void __launch_bounds__(kNormThreads, kNormBlocks)
    norm_act_bwd_kernel(const __grid_constant__ BwdParams<T> p) {
  using A = Compute<T>;
  const NormActWalk walk(p.grid, gridDim.x - 1 - blockIdx.x);
  const NormActConstants<A, V, kCoefficients> c(p.grid, walk, p.mean, p.rstd, p.weight, p.bias,
                                                p.coefficients);
  if (!walk.participates) return;
  for_rows<kRows, T, V>(walk, {p.g, p.x}, [&](const auto& row, int64_t at) {
    A g[V], x[V];
    row.values(0, g);
    row.values(1, x);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A centred = x[i] - c.mean[i];
      const A z = norm_act_z(centred, c.scale[i], c.bias[i]);
      const A u = g[i] * norm_act_slope(z, p.negative_slope);
      g[i] = u * c.by[0][i] + (centred * c.by[1][i] + c.by[2][i]);
    }
    store_global(p.d_x + at, g);
  });
}

template <class T>
void take_scratch(Arena& arena, const NormActShape& shape, BwdParams<T>* params) {
  using A = Compute<T>;
  const int64_t rows = shape.B * shape.C;
  A* partial = arena.take<A>(rows * kSums * NormActGrid::count_slices(shape));
  double* totals = arena.take<double>(rows * kSums);
  A* coefficients = arena.take<A>(rows * kCoefficients);
  if (params)
    params->partial = partial, params->totals = totals, params->coefficients = coefficients;
}

template <class T, int V>
cudaError_t bwd(const NormActBwdParams& p, void* workspace, void* stream) {
  using A = Compute<T>;
  BwdParams<T> params{NormActGrid(p.shape, V),
                      static_cast<const T*>(p.g),
                      static_cast<const T*>(p.x),
                      static_cast<const A*>(p.mean),
                      static_cast<const A*>(p.rstd),
                      p.weight,
                      p.bias,
                      static_cast<A>(p.negative_slope),
                      nullptr,
                      nullptr,
                      nullptr,
                      static_cast<T*>(p.d_x)};
  Arena arena(workspace);
  take_scratch(arena, p.shape, &params);
  const NormActGrid& grid = params.grid;
  cudaError_t error = launch(norm_act_bwd_sums_kernel<T, V>, grid.blocks(), kNormThreads,
                             kSums * kNormThreads * V * sizeof(A), params, stream);
  if (error != cudaSuccess) return error;
  error = launch(norm_act_bwd_finish_kernel<T>, grid.B * grid.G, kFinishThreads,
                 2 * kFinishWarps * sizeof(double), params, stream);
  if (error != cudaSuccess) return error;
  error = launch(norm_act_bwd_kernel<T, V>, grid.blocks(), kNormThreads,
                 NormActConstants<A, V, kCoefficients>::shared_bytes(grid), params, stream);
  if (error != cudaSuccess) return error;
  return write_affine_gradients(grid, p.d_bias, params.totals, p.d_weight,
                                params.totals + grid.B * grid.C, stream);
}

}  // namespace

int64_t norm_act_bwd_workspace(const NormActShape& shape) {
  Arena arena;
  if (shape.empty()) return 0;
  by_dtype(shape.dtype, [&](auto type) { take_scratch<decltype(type)>(arena, shape, nullptr); });
  return arena.bytes();
}

int norm_act_bwd(const NormActBwdParams& params, void* workspace, void* stream) {
  if (params.shape.empty()) return cudaSuccess;
  const bool aligned = wide_aligned(params.g, params.x, params.d_x);
  return by_row_width(params.shape, aligned, [&](auto type, auto width) {
    return bwd<decltype(type), width>(params, workspace, stream);
  });
}

}  // namespace fastgan::cuda
