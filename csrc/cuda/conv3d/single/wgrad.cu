// Weight gradient of a convolution of one channel: slices of tiles, whose sums are added in their
// order.
#include <algorithm>
#include <cstdint>

#include "cuda/arena.h"
#include "cuda/conv3d/conv3d.h"
#include "cuda/conv3d/single/tile.cuh"

namespace fastgan::cuda {
namespace {

constexpr int kQuadBits = 6;  // 256 voxels of 16 channels beside the inputs
constexpr int kSums = kQuad * kHalf;
// Weights that a block of the finishing kernel takes, and threads that share one.
constexpr int kFinished = 32, kSharers = kConvThreads / kFinished;

struct WgradParams {
  ConvSingleParams conv;
  ConvTaps taps;
  ConvTile tile;
  int64_t blocks;         // of 16 channels
  int64_t slice, slices;  // tiles of a slice; how many
  float* partial;         // [slices, blocks, kSums, members]

  explicit WgradParams(const ConvSingleParams& p)
      : conv(p), taps(p), tile(p, kQuadBits), partial(nullptr) {
    blocks = p.K / kConvChannels;
    slice = ceil_div(tiles() * blocks, most_blocks());
    slices = ceil_div(tiles(), slice);
  }

  __host__ __device__ int64_t tiles() const {
    return conv.B * tile.count[0] * tile.count[1] * tile.count[2];
  }
  // Threads that hold all weights of 16 channels: a row of taps and a half each.
  __host__ __device__ int members() const { return 2 * taps.kernel[0] * taps.kernel[1]; }
  __host__ __device__ int64_t sums() const { return blocks * kSums * members(); }
};

// y of a tile, 16 channels from `first` on, to shared memory [quads, 4, 16]; zeros outside.
template <class T>
__device__ void load_gradients(const WgradParams& p, const ConvPlace& place, int64_t first,
                               float* to) {
  constexpr int kV = kWide<T>, kParts = kConvChannels / kV;
  static_assert(kQuad << kQuadBits == kConvThreads, "as many parts a thread as an output has");
  const ConvSingleParams& conv = p.conv;
  const T* y = static_cast<const T*>(conv.y);
  Stored<T, kV> value[kParts] = {};
#pragma unroll
  for (int n = 0; n < kParts; ++n) {
    const int i = n * kConvThreads + threadIdx.x, part = i % kParts, voxel = i / kParts;
    const ConvQuad quad(p.tile, voxel / kQuad);
    const int d = quad.out[0], h = quad.out[1], w = quad.out[2] + voxel % kQuad;
    if (d >= place.left[0] || h >= place.left[1] || w >= place.left[2]) continue;
    const int64_t at = place.output(conv, d, h, w);
    value[n] = load_stored<kV>(y + at * conv.K + first + part * kV);
  }
#pragma unroll
  for (int n = 0; n < kParts; ++n) {
    const int i = n * kConvThreads + threadIdx.x;
    if (i >= p.tile.quads() * kQuad * kParts) break;
#pragma unroll
    for (int j = 0; j < kV; j += 4) {
      float four[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) four[k] = value_of<T, kV>(value[n], j + k);
      store_pack(to + i * kV + j, four);
    }
  }
}

// One block per (slice of tiles, 16 channels). A thread holds a half of the weights of a row of
// taps; as many threads as hold them all are a team, and teams take the quads in turn.
template <class T, int S>
__global__ void __launch_bounds__(kConvThreads, kConvBlocks)
    conv_single_wgrad_kernel(const __grid_constant__ WgradParams p) {
  float* inputs = shared_memory<float>();
  float* gradients = inputs + p.tile.floats();
  const int64_t block = blockIdx.x % p.blocks, slice = blockIdx.x / p.blocks;
  const int members = p.members(), teams = kConvThreads / members;
  const int team = threadIdx.x / members, member = threadIdx.x % members;
  const int half = member % 2, row = member / 2;
  const int offset = (row / p.taps.kernel[1] * p.tile.rows + row % p.taps.kernel[1]) * p.tile.pitch;
  float sum[kQuad][kHalf] = {};  // of the taps along W
  const int64_t end = (slice + 1) * p.slice < p.tiles() ? (slice + 1) * p.slice : p.tiles();
  for (int64_t tile = slice * p.slice; tile < end; ++tile) {
    const ConvPlace place(p.conv, p.tile, tile);
    __syncthreads();
    load_inputs<T>(p.conv, p.taps, p.tile, place, inputs);
    load_gradients<T>(p, place, block * kConvChannels, gradients);
    __syncthreads();
    for (int index = team; index < p.tile.quads() && team < teams; index += teams) {
      const ConvQuad quad(p.tile, index);
      if (quad.out[0] >= place.left[0]) break;
      if (quad.out[1] >= place.left[1]) continue;
      const int voxels = place.left[2] - quad.out[2];
      float window[kWindow<S>];
      load_window<S>(inputs + quad.input(p.tile, p.taps) + offset, window);
#pragma unroll
      for (int v = 0; v < kQuad; ++v) {
        if (v >= voxels) break;
        float g[kHalf];
        load_half<T>(gradients + (index * kQuad + v) * kConvChannels, half, g);
#pragma unroll
        for (int t = 0; t < kQuad; ++t) {
          if (t == 3 && p.taps.kernel[2] == 3) break;
#pragma unroll
          for (int c = 0; c < kHalf; ++c) sum[t][c] += window[v * S + t] * g[c];
        }
      }
    }
  }
  float* shared = shared_memory<float>();
  __syncthreads();
#pragma unroll
  for (int t = 0; t < kQuad; ++t) {
#pragma unroll
    for (int c = 0; c < kHalf; ++c)
      shared[(t * kHalf + c) * kConvThreads + threadIdx.x] = sum[t][c];
  }
  __syncthreads();
  float* to = p.partial + slice * p.sums() + block * kSums * members;
  for (int i = threadIdx.x; i < kSums * members; i += kConvThreads) {
    const float* from = shared + i / members * kConvThreads + i % members;
    float total = 0;
    for (int j = 0; j < teams; ++j) total += from[j * members];
    to[i] = total;
  }
}

// One block per 32 sums of [blocks, kSums, members]; threads of a sum share its slices.
__global__ void __launch_bounds__(kConvThreads)
    conv_single_wgrad_finish_kernel(const __grid_constant__ WgradParams p) {
  double* shared = shared_memory<double>();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kFinished + threadIdx.x % kFinished;
  double total = 0;
  if (at < p.sums()) {
#pragma unroll 8
    for (int64_t i = threadIdx.x / kFinished; i < p.slices; i += kSharers) {
      total += p.partial[i * p.sums() + at];
    }
  }
  shared[threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.x >= kFinished || at >= p.sums()) return;
  for (int i = 1; i < kSharers; ++i) total += shared[i * kFinished + threadIdx.x];
  const int members = p.members(), member = static_cast<int>(at % members);
  const int sum = static_cast<int>(at / members % kSums), t = sum / kHalf, c = sum % kHalf;
  if (t >= p.taps.kernel[2]) return;
  const bool half_width = p.conv.dtype == Dtype::kBFloat16;
  const int four = half_width ? four_channels<BFloat16>(member % 2, c / 4)
                              : four_channels<float>(member % 2, c / 4);
  const int64_t k = at / members / kSums * kConvChannels + four + c % 4;
  const int64_t to = k * p.taps.count() + member / 2 * p.taps.kernel[2] + t;
  if (half_width) {
    store(static_cast<BFloat16*>(p.conv.weight)[to], static_cast<float>(total));
  } else {
    static_cast<float*>(p.conv.weight)[to] = static_cast<float>(total);
  }
}

}  // namespace

int64_t conv_single_wgrad_workspace(const ConvSingleParams& p) {
  const WgradParams params(p);
  Arena arena;
  arena.take<float>(params.slices * params.sums());
  return arena.bytes();
}

int conv_single_wgrad(const ConvSingleParams& p, void* workspace, void* stream) {
  WgradParams params(p);
  params.partial = static_cast<float*>(workspace);
  const int tile = params.tile.floats() + params.tile.quads() * kQuad * kConvChannels;
  const int floats = std::max(tile, kSums * kConvThreads);
  const cudaError_t error = by_stride(p, [&](auto type, auto stride) {
    return launch(conv_single_wgrad_kernel<decltype(type), stride>, params.slices * params.blocks,
                  kConvThreads, floats * sizeof(float), params, stream);
  });
  if (error != cudaSuccess) return error;
  return launch(conv_single_wgrad_finish_kernel, ceil_div(params.sums(), kFinished), kConvThreads,
                kConvThreads * sizeof(double), params, stream);
}

}  // namespace fastgan::cuda
