// Second derivative of norm_act: sums over slices, means of groups, application.
#include <cstdint>

#include "cuda/arena.h"
#include "cuda/norm_act/finish.cuh"
#include "cuda/norm_act/norm_act.h"
#include "cuda/norm_act/walk.cuh"

namespace fastgan::cuda {
namespace {

constexpr int kSums = 5, kCoefficients = 7, kMeans = 7;
// Rows that a thread reads at once.
constexpr int kRows = 2;

template <class T>
struct BwdBwdParams {
  using A = Compute<T>;
  NormActGrid grid;
  const T* v;  // [B, S, C] or [B, C, S]; null: zero
  NormActAffine gg_weight, gg_bias;
  const T* g;     // like v
  const T* x;     // like v
  const A* mean;  // [B, G]
  const A* rstd;  // [B, G]
  NormActAffine weight, bias;
  A negative_slope;
  A* partial;        // [B, C, kSums, slices]: u, u (x - mean), v, v (x - mean), v u
  double* totals;    // [B, C, kSums]: u, u xh, v, v xh, v u
  double* d_weight;  // [B, C]
  A* coefficients;   // [B, C, kCoefficients]
  T* d_g;            // like v, output
  T* d_x;            // like v, output
};

// One block per (sample, tile of channels, slice).
template <class T, int V>
__global__ void __launch_bounds__(kNormThreads, kNormBlocks)
    norm_act_bwd_bwd_sums_kernel(const __grid_constant__ BwdBwdParams<T> p) {
  using A = Compute<T>;
  const NormActWalk walk(p.grid, blockIdx.x);
  const NormActConstants<A, V> c(p.grid, walk, p.mean, p.rstd, p.weight, p.bias);
  A sums[kSums][V] = {};
  for_rows<kRows, T, V>(walk, {p.v, p.g, p.x}, [&](const auto& row, int64_t) {
    A v[V], g[V], x[V];
    row.values(0, v);
    row.values(1, g);
    row.values(2, x);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A centred = x[i] - c.mean[i];
      const A z = norm_act_z(centred, c.scale[i], c.bias[i]);
      const A u = g[i] * norm_act_slope(z, p.negative_slope);
      sums[0][i] += u;
      sums[1][i] += u * centred;
      sums[2][i] += v[i];
      sums[3][i] += v[i] * centred;
      sums[4][i] += v[i] * u;
    }
  });
  write_partial_sums(p.grid, walk, sums, p.partial);
}

// One block per (sample, group).
template <class T>
__global__ void __launch_bounds__(kFinishThreads)
    norm_act_bwd_bwd_finish_kernel(const __grid_constant__ BwdBwdParams<T> p) {
  const NormActGrid& grid = p.grid;
  const int64_t b = blockIdx.x / grid.G, group = blockIdx.x % grid.G;
  const int64_t channels = grid.C / grid.G, first = group * channels, last = first + channels;
  const double rstd = p.rstd[blockIdx.x];
  double means[kMeans] = {};
  for (int64_t c = first + threadIdx.x / 32; c < last; c += kFinishWarps) {
    double totals[kSums];
    channel_totals(grid, p.partial, b, c, totals);
    totals[1] *= rstd;
    totals[3] *= rstd;
    const double weight = affine_at(p.weight, 1.0, b, c, grid.C);
    const double hg = affine_at(p.gg_weight, 0.0, b, c, grid.C);
    means[0] += weight * totals[0];
    means[1] += weight * totals[1];
    means[2] += totals[2];
    means[3] += totals[3];
    means[4] += weight * totals[4];
    means[5] += hg * totals[0];
    means[6] += hg * totals[1];
    if (threadIdx.x % 32 == 0) {
      for (int k = 0; k < kSums; ++k) p.totals[(b * grid.C + c) * kSums + k] = totals[k];
    }
  }
  sum_over_warps(means);
  const double m = static_cast<double>(channels) * static_cast<double>(grid.S);
  const NormActBwdBwdMeans of_group{{means[0] / m, means[1] / m},
                                    means[2] / m,
                                    means[3] / m,
                                    means[4] / m,
                                    means[5] / m,
                                    means[6] / m};
  for (int64_t c = first + threadIdx.x; c < last; c += kFinishThreads) {
    const int64_t at = b * grid.C + c;
    const NormActBwdBwdCoefficients of_channel = norm_act_bwd_bwd_coefficients(
        affine_at(p.weight, 1.0, b, c, grid.C), affine_at(p.gg_weight, 0.0, b, c, grid.C),
        affine_at(p.gg_bias, 0.0, b, c, grid.C), rstd, of_group);
    const double values[kCoefficients] = {
        of_channel.g_v, of_channel.g_centred, of_channel.g_one, of_channel.x_u,
        of_channel.x_v, of_channel.x_centred, of_channel.x_one};
    for (int k = 0; k < kCoefficients; ++k) {
      p.coefficients[at * kCoefficients + k] = static_cast<Compute<T>>(values[k]);
    }
    const double* totals = p.totals + at * kSums;
    p.d_weight[at] = norm_act_bwd_bwd_weight(rstd, totals[0], totals[1], totals[4], of_group);
  }
}

// One block per (sample, tile of channels, slice), the last first, as the sums left the cache.
template <class T, int V>
__global__ void __launch_bounds__(kNormThreads, kNormBlocks)
    norm_act_bwd_bwd_kernel(const __grid_constant__ BwdBwdParams<T> p) {
  using A = Compute<T>;
  const NormActWalk walk(p.grid, gridDim.x - 1 - blockIdx.x);
  const NormActConstants<A, V, kCoefficients> c(p.grid, walk, p.mean, p.rstd, p.weight, p.bias,
                                                p.coefficients);
  if (!walk.participates) return;
  for_rows<kRows, T, V>(walk, {p.v, p.g, p.x}, [&](const auto& row, int64_t at) {
    A v[V], g[V], x[V];
    row.values(0, v);
    row.values(1, g);
    row.values(2, x);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A centred = x[i] - c.mean[i];
      const A z = norm_act_z(centred, c.scale[i], c.bias[i]);
      const A s = norm_act_slope(z, p.negative_slope);
      const A u = g[i] * s;
      g[i] = s * (v[i] * c.by[0][i] + (centred * c.by[1][i] + c.by[2][i]));
      x[i] = u * c.by[3][i] + (v[i] * c.by[4][i] + (centred * c.by[5][i] + c.by[6][i]));
    }
    store_global(p.d_g + at, g);
    store_global(p.d_x + at, x);
  });
}

template <class T>
void take_scratch(Arena& arena, const NormActShape& shape, BwdBwdParams<T>* params) {
  using A = Compute<T>;
  const int64_t rows = shape.B * shape.C;
  A* partial = arena.take<A>(rows * kSums * NormActGrid::count_slices(shape));
  double* totals = arena.take<double>(rows * kSums);
  double* d_weight = arena.take<double>(rows);
  A* coefficients = arena.take<A>(rows * kCoefficients);
  if (!params) return;
  params->partial = partial;
  params->totals = totals;
  params->d_weight = d_weight;
  params->coefficients = coefficients;
}

template <class T, int V>
cudaError_t bwd_bwd(const NormActBwdBwdParams& p, void* workspace, void* stream) {
  using A = Compute<T>;
  BwdBwdParams<T> params{NormActGrid(p.shape, V),
                         static_cast<const T*>(p.gg_x),
                         p.gg_weight,
                         p.gg_bias,
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
                         nullptr,
                         static_cast<T*>(p.d_g),
                         static_cast<T*>(p.d_x)};
  Arena arena(workspace);
  take_scratch(arena, p.shape, &params);
  const NormActGrid& grid = params.grid;
  cudaError_t error = launch(norm_act_bwd_bwd_sums_kernel<T, V>, grid.blocks(), kNormThreads,
                             kSums * kNormThreads * V * sizeof(A), params, stream);
  if (error != cudaSuccess) return error;
  error = launch(norm_act_bwd_bwd_finish_kernel<T>, grid.B * grid.G, kFinishThreads,
                 kMeans * kFinishWarps * sizeof(double), params, stream);
  if (error != cudaSuccess) return error;
  error = launch(norm_act_bwd_bwd_kernel<T, V>, grid.blocks(), kNormThreads,
                 NormActConstants<A, V, kCoefficients>::shared_bytes(grid), params, stream);
  if (error != cudaSuccess) return error;
  return write_affine_gradients(grid, p.d_weight, params.d_weight, {}, nullptr, stream);
}

}  // namespace

int64_t norm_act_bwd_bwd_workspace(const NormActShape& shape) {
  Arena arena;
  if (shape.empty()) return 0;
  by_dtype(shape.dtype, [&](auto type) { take_scratch<decltype(type)>(arena, shape, nullptr); });
  return arena.bytes();
}

int norm_act_bwd_bwd(const NormActBwdBwdParams& params, void* workspace, void* stream) {
  if (params.shape.empty()) return cudaSuccess;
  const bool aligned = wide_aligned(params.gg_x, params.g, params.x, params.d_g, params.d_x);
  return by_row_width(params.shape, aligned, [&](auto type, auto width) {
    return bwd_bwd<decltype(type), width>(params, workspace, stream);
  });
}

}  // namespace fastgan::cuda
