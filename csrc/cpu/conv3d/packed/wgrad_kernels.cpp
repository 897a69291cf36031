// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/conv3d/packed/wgrad_kernels.h"

#include "cpu/conv3d/lanes.h"

namespace fastgan::cpu {
namespace {

static_assert(ConvPackedWgradParams::kLanes == Lanes::kWidth);

// Output channels worked on at once: their sums fill three quarters of the registers.
constexpr int kTile = kVectorBytes == 64 ? 24 : kVectorBytes == 32 ? 6 : 3;

// N output channels, whose first is at g.
template <int N>
void tile(const ConvPackedWgradBlock& block, const float* g, float* sums) {
  Lanes sum[N];
#pragma GCC unroll 32
  for (int k = 0; k < N; ++k) sum[k] = Lanes{};
  for (int64_t o = 0; o < block.outputs; ++o) {
    const Lanes value = read(block.x + block.of_x[o]);
    const float* from = g + block.of_g[o];
#pragma GCC unroll 32
    for (int k = 0; k < N; ++k) sum[k].add_product(value, from[k]);
  }
#pragma GCC unroll 32
  for (int k = 0; k < N; ++k) add_to(sums + k * Lanes::kWidth, sum[k]);
}

// tile<count>, 1 <= count <= N.
template <int N>
void tile_of(int64_t count, const ConvPackedWgradBlock& block, const float* g, float* sums) {
  if (count == N) return tile<N>(block, g, sums);
  if constexpr (N > 1) tile_of<N - 1>(count, block, g, sums);
}

void wgrad(const ConvPackedWgradBlock& block, float* sums) {
  // tiles of nearly equal size: a small one would wait for its own sums
  const int64_t tiles = (block.channels + kTile - 1) / kTile;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t begin = block.channels * i / tiles, end = block.channels * (i + 1) / tiles;
    tile_of<kTile>(end - begin, block, block.g + begin, sums + begin * Lanes::kWidth);
  }
}

}  // namespace

namespace FASTGAN_ISA {

ConvPackedWgradKernel conv_packed_wgrad_kernel() { return &wgrad; }

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
