#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/ceil_div.h"
#include "cuda/arena.h"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "cuda/slope_penalty/slope_penalty.h"
#include "cuda/vec.cuh"

namespace fastgan::cuda {
namespace {

constexpr int kThreads = 256;

// One block takes a slice of a sample; slices depend on the shape alone.
struct SliceGrid {
  // At least 8 elements a thread.
  static constexpr int64_t kMinElements = 2048, kMaxSlices = 1024;

  int64_t B, S, slice, slices;

  explicit SliceGrid(const SlopePenaltyShape& shape) : B(shape.B), S(shape.S) {
    const int64_t take = std::max({kMinElements, B * S / most_blocks(), ceil_div(S, kMaxSlices)});
    slice = ceil_div(take, 8) * 8;
    slices = ceil_div(S, slice);
  }

  int64_t blocks() const { return B * slices; }
  __device__ int64_t sample() const { return blockIdx.x / slices; }
  // Offsets of the thread's first pack of V elements, and of the slice's end.
  __device__ int64_t first(int V) const {
    return sample() * S + blockIdx.x % slices * slice + static_cast<int64_t>(threadIdx.x) * V;
  }
  __device__ int64_t end() const {
    const int64_t stop = (blockIdx.x % slices + 1) * slice;
    return sample() * S + (stop < S ? stop : S);
  }
};

// Calls pass(value of the storage type, V): 16-byte accesses if every slice begins on their border.
template <class Pass>
cudaError_t by_width(const SlopePenaltyShape& shape, bool aligned, const Pass& pass) {
  cudaError_t error = cudaErrorInvalidValue;
  by_dtype(shape.dtype, [&](auto type) {
    constexpr int kV = kWide<decltype(type)>;
    error = aligned && shape.S % kV == 0 ? pass(type, std::integral_constant<int, kV>())
                                         : pass(type, std::integral_constant<int, 1>());
  });
  return error;
}

// Packs that a thread reads at once.
constexpr int kPacks = 4;

// Calls use(values of each tensor, offset) for a thread's packs in their order; so many are read
// before the first of them is used.
template <int V, class T, int kTensors, class Use>
__device__ __forceinline__ void for_packs(const SliceGrid& grid, const T* const (&from)[kTensors],
                                          const Use& use) {
  using Packs = Stored<T, V>;
  constexpr int kStep = kThreads * V;
  const int64_t end = grid.end();
  const auto used = [&](const Packs(&packs)[kTensors], int64_t at) {
    Compute<T> values[kTensors][V];
#pragma unroll
    for (int k = 0; k < kTensors; ++k) {
#pragma unroll
      for (int i = 0; i < V; ++i) values[k][i] = value_of<T, V>(packs[k], i);
    }
    use(values, at);
  };
  int64_t at = grid.first(V);
  for (; at + (kPacks - 1) * kStep < end; at += kPacks * kStep) {
    Packs packs[kPacks][kTensors];
#pragma unroll
    for (int n = 0; n < kPacks; ++n) {
#pragma unroll
      for (int k = 0; k < kTensors; ++k) packs[n][k] = load_stored<V>(from[k] + at + n * kStep);
    }
#pragma unroll
    for (int n = 0; n < kPacks; ++n) used(packs[n], at + n * kStep);
  }
  for (; at < end; at += kStep) {
    Packs packs[kTensors];
#pragma unroll
    for (int k = 0; k < kTensors; ++k) packs[k] = load_stored<V>(from[k] + at);
    used(packs, at);
  }
}

template <class T>
struct SquaresParams {
  SliceGrid grid;
  const T* slope;   // [B, S]
  double* partial;  // [B, slices] output
};

// One block per (sample, slice): sum of squares.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    slope_penalty_squares_kernel(const __grid_constant__ SquaresParams<T> p) {
  using A = Compute<T>;
  A sums[V] = {};
  for_packs<V, T>(p.grid, {p.slope}, [&](const A(&g)[1][V], int64_t) {
#pragma unroll
    for (int i = 0; i < V; ++i) sums[i] += g[0][i] * g[0][i];
  });
  double sum = 0;
#pragma unroll
  for (int i = 0; i < V; ++i) sum += sums[i];
  sum = block_sum<kThreads>(sum, shared_memory<double>());
  if (threadIdx.x == 0) p.partial[blockIdx.x] = sum;
}

template <class A>
struct ValueParams {
  SliceGrid grid;
  const double* partial;  // [B, slices]
  A target;
  bool one_sided;
  A* value;  // [] output
  A* norms;  // [B] output
};

// One block in all, a warp for each sample in turn: norms, and the mean of their squared excess.
template <class A>
__global__ void __launch_bounds__(kThreads)
    slope_penalty_value_kernel(const __grid_constant__ ValueParams<A> p) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  double squares = 0;
  for (int64_t b = warp; b < p.grid.B; b += kThreads / 32) {
    double sum = 0;
    for (int64_t i = lane; i < p.grid.slices; i += 32) sum += p.partial[b * p.grid.slices + i];
    const A norm = static_cast<A>(sqrt(warp_sum(sum)));
    const double excess = slope_penalty_excess(norm, p.target, p.one_sided);
    if (lane == 0) p.norms[b] = norm, squares += excess * excess;
  }
  squares = block_sum<kThreads>(squares, shared_memory<double>());
  if (threadIdx.x == 0) *p.value = static_cast<A>(squares / static_cast<double>(p.grid.B));
}

template <class T>
struct BwdParams {
  SliceGrid grid;
  const Compute<T>* g;      // []
  const T* slope;           // [B, S]
  const Compute<T>* norms;  // [B]
  Compute<T> target;
  bool one_sided;
  T* d_slope;  // [B, S] output
};

// One block per (sample, slice).
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    slope_penalty_bwd_kernel(const __grid_constant__ BwdParams<T> p) {
  using A = Compute<T>;
  const A factor = *p.g * slope_penalty_factor(p.norms[p.grid.sample()], p.target, p.one_sided,
                                               static_cast<A>(p.grid.B));
  for_packs<V, T>(p.grid, {p.slope}, [&](A(&value)[1][V], int64_t at) {
#pragma unroll
    for (int i = 0; i < V; ++i) value[0][i] *= factor;
    store_global(p.d_slope + at, value[0]);
  });
}

template <class T>
struct MixParams {
  SliceGrid grid;
  const T* real;            // [B, S]
  const T* fake;            // [B, S]
  const Compute<T>* share;  // [B]
  T* x;                     // [B, S] output
};

// One block per (sample, slice).
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    slope_penalty_mix_kernel(const __grid_constant__ MixParams<T> p) {
  using A = Compute<T>;
  const A share = p.share[p.grid.sample()];
  for_packs<V, T>(p.grid, {p.real, p.fake}, [&](A(&value)[2][V], int64_t at) {
#pragma unroll
    for (int i = 0; i < V; ++i) value[1][i] += share * (value[0][i] - value[1][i]);
    store_global(p.x + at, value[1]);
  });
}

}  // namespace

int64_t slope_penalty_workspace(const SlopePenaltyShape& shape) {
  Arena arena;
  arena.take<double>(SliceGrid(shape).blocks());
  return arena.bytes();
}

int slope_penalty_fwd(const SlopePenaltyFwdParams& p, void* workspace, void* stream) {
  const SliceGrid grid(p.shape);
  double* partial = static_cast<double*>(workspace);
  return by_width(p.shape, wide_aligned(p.slope), [&](auto type, auto width) {
    using T = decltype(type);
    using A = Compute<T>;
    const cudaError_t error =
        launch(slope_penalty_squares_kernel<T, width>, grid.blocks(), kThreads,
               kThreads / 32 * sizeof(double),
               SquaresParams<T>{grid, static_cast<const T*>(p.slope), partial}, stream);
    if (error != cudaSuccess) return error;
    return launch(slope_penalty_value_kernel<A>, 1, kThreads, kThreads / 32 * sizeof(double),
                  ValueParams<A>{grid, partial, static_cast<A>(p.target), p.one_sided,
                                 static_cast<A*>(p.value), static_cast<A*>(p.norms)},
                  stream);
  });
}

int slope_penalty_bwd(const SlopePenaltyBwdParams& p, void* stream) {
  const SliceGrid grid(p.shape);
  return by_width(p.shape, wide_aligned(p.slope, p.d_slope), [&](auto type, auto width) {
    using T = decltype(type);
    using A = Compute<T>;
    return launch(slope_penalty_bwd_kernel<T, width>, grid.blocks(), kThreads, 0,
                  BwdParams<T>{grid, static_cast<const A*>(p.g), static_cast<const T*>(p.slope),
                               static_cast<const A*>(p.norms), static_cast<A>(p.target),
                               p.one_sided, static_cast<T*>(p.d_slope)},
                  stream);
  });
}

int slope_penalty_mix(const SlopePenaltyMixParams& p, void* stream) {
  const SliceGrid grid(p.shape);
  const bool aligned = wide_aligned(p.real, p.fake, p.x);
  return by_width(p.shape, aligned, [&](auto type, auto width) {
    using T = decltype(type);
    return launch(slope_penalty_mix_kernel<T, width>, grid.blocks(), kThreads, 0,
                  MixParams<T>{grid, static_cast<const T*>(p.real), static_cast<const T*>(p.fake),
                               static_cast<const Compute<T>*>(p.share), static_cast<T*>(p.x)},
                  stream);
  });
}

}  // namespace fastgan::cuda
