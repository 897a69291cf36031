// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/conv3d_dgrad_kernels.h"

#include "cpu/conv3d_lanes.h"

namespace fastgan::cpu {
namespace {

// Places worked on at once: their sums fill three quarters of the registers.
constexpr int kTile = kVectorBytes == 64 ? 24 : kVectorBytes == 32 ? 6 : 3;

// N places, from `first` on.
template <int N>
void tile(const ConvDgradPlaces& places, int64_t first, float* sums) {
  Lanes sum[N];
  const float* g[N];
#pragma GCC unroll 32
  for (int n = 0; n < N; ++n) {
    sum[n] = Lanes{};
    g[n] = places.g + places.from[first + n];
  }
  const float* taps = places.taps;
  for (int64_t t = 0; t < places.reach; ++t) {
    for (int64_t k = 0; k < places.K; ++k, taps += Lanes::kWidth) {
      const Lanes tap = read(taps);
#pragma GCC unroll 32
      for (int n = 0; n < N; ++n) sum[n].add_product(tap, g[n][k]);
    }
    // a place meets the output before it by the taps behind
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) g[n] -= places.K;
  }
#pragma GCC unroll 32
  for (int n = 0; n < N; ++n) {
    float* to = sums + places.to[first + n];
    const Lanes before = read(to);
#pragma GCC unroll 16
    for (int i = 0; i < Lanes::kVectors; ++i) sum[n].part[i] += before.part[i];
    write(to, sum[n]);
  }
}

// tile<count>, 1 <= count <= N.
template <int N>
void tile_of(int64_t count, const ConvDgradPlaces& places, int64_t first, float* sums) {
  if (count == N) return tile<N>(places, first, sums);
  if constexpr (N > 1) tile_of<N - 1>(count, places, first, sums);
}

void dgrad(const ConvDgradPlaces& places, float* sums) {
  // tiles of nearly equal size: a small one would wait for its own sums
  const int64_t tiles = (places.count + kTile - 1) / kTile;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t begin = places.count * i / tiles, end = places.count * (i + 1) / tiles;
    tile_of<kTile>(end - begin, places, begin, sums);
  }
}

}  // namespace

namespace FASTGAN_ISA {

ConvDgradKernel conv_dgrad_kernel() { return &dgrad; }

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
