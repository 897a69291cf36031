// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/conv3d_dgrad_kernels.h"

#include "cpu/conv3d_lanes.h"

namespace fastgan::cpu {
namespace {

// Places worked on at once: their sums fill three quarters of the registers.
constexpr int kTile = kVectorBytes == 64 ? 24 : kVectorBytes == 32 ? 6 : 3;

// N places and 16 lanes; g of the first place.
template <int N>
void tile(const ConvDgradRow& row, const float* g, const float* taps, float* to) {
  Lanes sum[N];
#pragma GCC unroll 32
  for (int n = 0; n < N; ++n) sum[n] = Lanes{};
  // a place meets the output before it by the taps behind
  for (int64_t t = 0; t < row.reach; ++t, g -= row.K) {
    for (int64_t k = 0; k < row.K; ++k, taps += Lanes::kWidth) {
      const Lanes tap = read(taps);
#pragma GCC unroll 32
      for (int n = 0; n < N; ++n) sum[n].add_product(tap, g[n * row.K + k]);
    }
  }
#pragma GCC unroll 32
  for (int n = 0; n < N; ++n) {
    const Lanes before = read(to + n * row.pitch);
#pragma GCC unroll 16
    for (int i = 0; i < Lanes::kVectors; ++i) sum[n].part[i] += before.part[i];
    write(to + n * row.pitch, sum[n]);
  }
}

// tile<count>, 1 <= count <= N.
template <int N>
void tile_of(int64_t count, const ConvDgradRow& row, const float* g, const float* taps, float* to) {
  if (count == N) return tile<N>(row, g, taps, to);
  if constexpr (N > 1) tile_of<N - 1>(count, row, g, taps, to);
}

void dgrad(const ConvDgradRow& row, float* to) {
  // tiles of nearly equal size: a small one would wait for its own sums
  const int64_t tiles = (row.places + kTile - 1) / kTile;
  const float* first = row.g + (row.reach - 1) * row.K;
  for (int64_t block = 0; block < row.pitch / Lanes::kWidth; ++block) {
    const float* taps = row.taps + block * row.reach * row.K * Lanes::kWidth;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t begin = row.places * i / tiles, end = row.places * (i + 1) / tiles;
      tile_of<kTile>(end - begin, row, first + begin * row.K, taps,
                     to + begin * row.pitch + block * Lanes::kWidth);
    }
  }
}

}  // namespace

namespace FASTGAN_ISA {

ConvDgradKernel conv_dgrad_kernel() { return &dgrad; }

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
