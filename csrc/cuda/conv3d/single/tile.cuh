// Tiles of outputs, with the inputs they meet in shared memory, and the values that threads hold.
//
// quad: four outputs side by side along W, of one thread
// tile: the quads of a block, powers of two along each axis
// half: the 8 of 16 channels that one of two neighbouring threads takes
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/ceil_div.h"
#include "core/conv3d.h"
#include "cuda/launch.cuh"
#include "cuda/vec.cuh"

namespace fastgan::cuda {

constexpr int kConvThreads = 256;
// Blocks of a multiprocessor at least: 80 registers a thread.
constexpr int kConvBlocks = 3;
constexpr int kConvChannels = static_cast<int>(ConvSingleParams::kLanes);
constexpr int kQuad = 4;
constexpr int kHalf = kConvChannels / 2;
// Inputs that a quad meets along W at stride S with four taps, in whole 16-byte reads.
template <int S>
constexpr int kWindow = (kQuad - 1) * S + 4 <= 8 ? 8 : 12;

// Sizes of a convolution as a thread counts with them.
struct ConvTaps {
  int kernel[3], stride[3];

  explicit ConvTaps(const ConvSingleParams& p) {
    for (int i = 0; i < 3; ++i) {
      kernel[i] = static_cast<int>(p.kernel[i]);
      stride[i] = static_cast<int>(p.stride[i]);
    }
  }
  __host__ __device__ int count() const { return kernel[0] * kernel[1] * kernel[2]; }
};

struct ConvTile {
  // 32 planes or rows, and 8 quads: with 128 quads at stride 2 the inputs fill at most 38 KB.
  static constexpr int kMostBits = 5, kMostQuadBits = 3;

  int bits[3];       // log2 of planes, rows and quads
  int64_t count[3];  // tiles along D', H', W'
  int planes, rows;  // of inputs
  int pitch;         // floats from one row of inputs to the next

  // Of 2^quad_bits quads, or fewer where the volume is small.
  ConvTile(const ConvSingleParams& p, int quad_bits) : bits{} {
    while (bits[2] < kMostQuadBits && (kQuad << bits[2]) < p.out[2]) ++bits[2];
    for (int left = quad_bits - bits[2]; left > 0; --left) {
      const auto grows = [&](int i) { return bits[i] < kMostBits && (1 << bits[i]) < p.out[i]; };
      if (!grows(0) && !grows(1)) break;
      ++bits[!grows(1) || (grows(0) && bits[0] < bits[1]) ? 0 : 1];
    }
    const ConvTaps taps(p);
    planes = ((1 << bits[0]) - 1) * taps.stride[0] + taps.kernel[0];
    rows = ((1 << bits[1]) - 1) * taps.stride[1] + taps.kernel[1];
    pitch = (kQuad << bits[2]) * taps.stride[2] + kQuad;
    for (int i = 0; i < 3; ++i) count[i] = ceil_div(p.out[i], (i == 2 ? kQuad : 1) << bits[i]);
  }

  int64_t tiles() const { return count[0] * count[1] * count[2]; }
  __host__ __device__ int quads() const { return 1 << (bits[0] + bits[1] + bits[2]); }
  // Inputs in shared memory, a multiple of 4.
  __host__ __device__ int floats() const { return planes * rows * pitch; }
};

// One tile of one sample.
struct ConvPlace {
  int64_t b;
  int out[3];   // its first output
  int left[3];  // outputs of the volume from there on

  __device__ ConvPlace(const ConvSingleParams& p, const ConvTile& tile, int64_t index) {
#pragma unroll
    for (int i = 2; i >= 0; --i) {
      out[i] = static_cast<int>(index % tile.count[i]) << (tile.bits[i] + (i == 2 ? 2 : 0));
      left[i] = static_cast<int>(p.out[i]) - out[i];
      index /= tile.count[i];
    }
    b = index;
  }
  // Number of an output of [B, D', H', W'], counted within the tile.
  __device__ int64_t output(const ConvSingleParams& p, int d, int h, int w) const {
    return ((b * p.out[0] + out[0] + d) * p.out[1] + out[1] + h) * p.out[2] + out[2] + w;
  }
};

// One quad of a tile: its first output, counted within the tile.
struct ConvQuad {
  int out[3];

  __device__ ConvQuad(const ConvTile& tile, int index) {
    out[2] = kQuad * (index & ((1 << tile.bits[2]) - 1));
    index >>= tile.bits[2];
    out[1] = index & ((1 << tile.bits[1]) - 1);
    out[0] = index >> tile.bits[1];
  }
  // Offset of its first input in shared memory, a multiple of 4.
  __device__ int input(const ConvTile& tile, const ConvTaps& taps) const {
    return (out[0] * taps.stride[0] * tile.rows + out[1] * taps.stride[1]) * tile.pitch +
           out[2] * taps.stride[2];
  }
};

// Copies the inputs of a tile into shared memory, a row a warp, with zeros around the volume.
template <class T>
__device__ void load_inputs(const ConvSingleParams& p, const ConvTaps& taps, const ConvTile& tile,
                            const ConvPlace& place, float* to) {
  int first[3];
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    first[i] = place.out[i] * taps.stride[i] - static_cast<int>(p.padding[i]);
  }
  const T* x = static_cast<const T*>(p.x);
#pragma unroll 2
  for (int row = threadIdx.x / 32; row < tile.planes * tile.rows; row += kConvThreads / 32) {
    const int d = first[0] + row / tile.rows, h = first[1] + row % tile.rows;
    const bool inside = d >= 0 && d < p.in[0] && h >= 0 && h < p.in[1];
    const T* from = x + ((place.b * p.in[0] + d) * p.in[1] + h) * p.in[2] + first[2];
    for (int i = threadIdx.x % 32; i < tile.pitch; i += 32) {
      const int w = first[2] + i;
      to[row * tile.pitch + i] = inside && w >= 0 && w < p.in[2] ? load(from[i]) : 0.0f;
    }
  }
}

// The inputs that a quad meets in one row; from is on a 16-byte border.
template <int S>
__device__ __forceinline__ void load_window(const float* from, float (&window)[kWindow<S>]) {
#pragma unroll
  for (int i = 0; i < kWindow<S>; i += 4) {
    float part[4];
    load_pack(from + i, part);
#pragma unroll
    for (int j = 0; j < 4; ++j) window[i + j] = part[j];
  }
}

// First of four neighbouring channels: those of a half lie so that both halves together read and
// write 32 bytes side by side, float32 in two turns.
template <class T>
__device__ __forceinline__ int four_channels(int half, int i) {
  return sizeof(T) == 2 ? kHalf * half + 4 * i : kHalf * i + 4 * half;
}

// The 8 values of a half, of 16 channels in shared memory.
template <class T>
__device__ __forceinline__ void load_half(const float* from, int half, float (&to)[kHalf]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float part[4];
    load_pack(from + four_channels<T>(half, i), part);
#pragma unroll
    for (int j = 0; j < 4; ++j) to[4 * i + j] = part[j];
  }
}

// Calls pass(value of the storage type, stride along W).
template <class Pass>
cudaError_t by_stride(const ConvSingleParams& p, const Pass& pass) {
  const auto typed = [&](auto type) {
    return p.stride[2] == 1 ? pass(type, std::integral_constant<int, 1>())
                            : pass(type, std::integral_constant<int, 2>());
  };
  return p.dtype == Dtype::kBFloat16 ? typed(BFloat16()) : typed(float());
}

}  // namespace fastgan::cuda
