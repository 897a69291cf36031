// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/conv3d/packed/fprop_dgrad_kernels.h"

#include "cpu/conv3d/lanes.h"

namespace fastgan::cpu {
namespace {

// Places worked on at once: their sums fill three quarters of the registers.
constexpr int kTile = kVectorBytes == 64 ? 24 : kVectorBytes == 32 ? 6 : 3;

// N places, from `first` on.
template <int N>
void tile(const ConvPackedPlaces& places, int64_t first, float* sums) {
  Lanes sum[N];
  const float* row[N];
#pragma GCC unroll 32
  for (int n = 0; n < N; ++n) {
    sum[n] = Lanes{};
    row[n] = places.operand + places.from[first + n];
  }
  const float* taps = places.taps;
  for (int64_t t = 0; t < places.reach; ++t) {
    for (int64_t k = 0; k < places.run; ++k, taps += Lanes::kWidth) {
      const Lanes tap = read(taps);
#pragma GCC unroll 32
      for (int n = 0; n < N; ++n) sum[n].add_product(tap, row[n][k]);
    }
    // the taps behind meet the row before
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) row[n] -= places.run;
  }
#pragma GCC unroll 32
  for (int n = 0; n < N; ++n) add_to(sums + places.to[first + n], sum[n]);
}

// tile<count>, 1 <= count <= N.
template <int N>
void tile_of(int64_t count, const ConvPackedPlaces& places, int64_t first, float* sums) {
  if (count == N) return tile<N>(places, first, sums);
  if constexpr (N > 1) tile_of<N - 1>(count, places, first, sums);
}

void add(const ConvPackedPlaces& places, float* sums) {
  // tiles of nearly equal size: a small one would wait for its own sums
  const int64_t tiles = (places.count + kTile - 1) / kTile;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t begin = places.count * i / tiles, end = places.count * (i + 1) / tiles;
    tile_of<kTile>(end - begin, places, begin, sums);
  }
}

}  // namespace

namespace FASTGAN_ISA {

ConvPackedPlacesKernel conv_packed_places_kernel() { return &add; }

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
