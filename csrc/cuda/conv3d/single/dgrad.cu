// Input gradient of a convolution of one channel, as a gather: a block owns a piece of a plane of
// inputs. Threads multiply the outputs that it meets with the taps of one plane and leave the
// products in shared memory; then each input adds up its own.
#include <algorithm>
#include <cstdint>

#include "cuda/conv3d/conv3d.h"
#include "cuda/conv3d/single/tile.cuh"

namespace fastgan::cuda {
namespace {

// Products of an output: its taps along H and W, four a row.
constexpr int kTaps = 16;

// Outputs of a block along H and W, and what the next block meets of them again.
struct DgradPiece {
  int size[2], overlap[2];
  int64_t count[2];
  int pitch;  // floats from one tap's products to the next

  explicit DgradPiece(const ConvSingleParams& p) {
    for (int i = 0; i < 2; ++i) {
      const int64_t k = p.kernel[1 + i], s = p.stride[1 + i];
      overlap[i] = k > s ? static_cast<int>(ceil_div(k - s, s)) : 0;
    }
    int64_t fewest = 0;
    // two outputs a thread; along W, where memory is read, as far as it costs no block
    for (int pairs = kConvThreads / 8; pairs >= 4; --pairs) {
      const int candidate[2] = {kConvThreads / pairs, 2 * pairs};
      int64_t counts[2];
      for (int i = 0; i < 2; ++i) {
        const int64_t rest = std::max<int64_t>(p.out[1 + i] - overlap[i], 1);
        counts[i] = ceil_div(rest, candidate[i] - overlap[i]);
      }
      if (fewest != 0 && counts[0] * counts[1] >= fewest) continue;
      fewest = counts[0] * counts[1];
      for (int i = 0; i < 2; ++i) size[i] = candidate[i], count[i] = counts[i];
    }
    // the two inputs between neighbours at stride 2 read banks half a row apart
    pitch = static_cast<int>(ceil_div(size[0] * size[1], 32)) * 32 + 16;
  }

  // Inputs of a block at most: beyond those of its outputs lie up to three at a border. 2489 where
  // a piece is 8 x 64 outputs at stride 2.
  int most_inputs(const ConvTaps& taps) const {
    return (size[0] * taps.stride[1] + 3) * (size[1] * taps.stride[2] + 3);
  }
};

struct DgradParams {
  ConvSingleParams conv;
  ConvTaps taps;
  DgradPiece piece;
};

// Inputs of a piece along one axis, 1 for H and 2 for W: those whose outputs, where
// the volume has them, are all among its own.
struct DgradRange {
  int first, count;  // its own outputs in the volume
  int begin, inputs;
  int shift;  // from an input, counted from `begin`, to tap 0 of its first output

  __device__ DgradRange(const DgradParams& p, int index, int axis) {
    const int size = p.piece.size[axis - 1], step = size - p.piece.overlap[axis - 1];
    const int in = static_cast<int>(p.conv.in[axis]), out = static_cast<int>(p.conv.out[axis]);
    const int k = p.taps.kernel[axis], s = p.taps.stride[axis];
    const int padding = static_cast<int>(p.conv.padding[axis]);
    // the first input that no output before `o` reaches
    const auto border = [&](int o) {
      const int at = s * o + (k > s ? k - s : 0) - padding;
      return at < 0 ? 0 : at < in ? at : in;
    };
    first = index * step;
    count = out - first < size ? out - first : size;
    begin = index == 0 ? 0 : border(first);
    inputs = (index + 1 == p.piece.count[axis - 1] ? in : border(first + step)) - begin;
    shift = begin + padding - first * s;
  }
};

// What a block owns: inputs of one plane of a sample.
struct DgradPlace {
  DgradRange high, wide;
  int plane;
  int64_t b;

  // planes first, so that blocks under way together meet the same outputs
  __device__ DgradPlace(const DgradParams& p, int64_t block)
      : high(p, static_cast<int>(block / p.conv.in[0] / p.piece.count[1] % p.piece.count[0]), 1),
        wide(p, static_cast<int>(block / p.conv.in[0] % p.piece.count[1]), 2),
        plane(static_cast<int>(block % p.conv.in[0])),
        b(block / p.conv.in[0] / p.piece.count[1] / p.piece.count[0]) {}

  __device__ int inputs() const { return high.inputs * wide.inputs; }
};
// Floats that it takes, up to the next 16-byte border.
constexpr int kPlace = (sizeof(DgradPlace) + 15) / 16 * 4;

// The weights of 16 channels from `first` on, plane d of their taps, to shared memory [16, kTaps].
template <class T>
__device__ __forceinline__ void load_weights(const ConvSingleParams& p, const ConvTaps& taps,
                                             int first, int d, float* to) {
  static_assert(kConvThreads == kConvChannels * kTaps);
  const int h = threadIdx.x % kTaps / 4, w = threadIdx.x % 4;
  const int64_t k = first + threadIdx.x / kTaps;
  const int64_t at = ((k * taps.kernel[0] + d) * taps.kernel[1] + h) * taps.kernel[2] + w;
  const bool there = h < taps.kernel[1] && w < taps.kernel[2];
  to[threadIdx.x] = there ? load(static_cast<const T*>(p.weight)[at]) : 0.0f;
}

// 16 bytes of channels.
template <class T>
using Part = Stored<T, kWide<T>>;

// Those of two outputs side by side; zeros where `outputs` of them are not there.
template <class T>
__device__ __forceinline__ void load_two(const T* from, int64_t K, int outputs, Part<T> (&to)[2]) {
#pragma unroll
  for (int v = 0; v < 2; ++v) to[v] = v < outputs ? load_stored<kWide<T>>(from + v * K) : Part<T>{};
}

// Adds their products with N x N taps, whose weights are [channels, kTaps]; uses the registers of g
// up.
template <int N, class T>
__device__ __forceinline__ void add_products(Part<T> (&g)[2], const float* weights,
                                             float (&sum)[kTaps][2]) {
  // two channels at a time: unrolled further, weights read ahead would fill the registers
  constexpr int kWords = 2 * sizeof(T) / sizeof(uint32_t);
#pragma unroll 1
  for (int word = 0; word < 4; word += kWords) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float left = value_of<T, kWide<T>>(g[0], c), right = value_of<T, kWide<T>>(g[1], c);
#pragma unroll
      for (int h = 0; h < N; ++h) {
        float by[4];
        load_pack(weights + c * kTaps + 4 * h, by);
#pragma unroll
        for (int w = 0; w < N; ++w) {
          sum[4 * h + w][0] += left * by[w];
          sum[4 * h + w][1] += right * by[w];
        }
      }
    }
    weights += 2 * kTaps;
#pragma unroll
    for (int i = 0; i < 4 - kWords; ++i) {
      g[0].at[i] = g[0].at[i + kWords];
      g[1].at[i] = g[1].at[i + kWords];
    }
  }
}

// Sum of the products that one input of a piece has in this plane of taps.
__device__ __forceinline__ float own_products(const DgradParams& p, const DgradPlace& place,
                                              const float* products, int h, int w) {
  // strides are 1 and 2
  const int bit_h = p.taps.stride[1] - 1, bit_w = p.taps.stride[2] - 1;
  h += place.high.shift;
  w += place.wide.shift;
  float total = 0;
  for (int i = h & bit_h; i < p.taps.kernel[1] && i <= h; i += 1 + bit_h) {
    const int out_h = (h - i) >> bit_h;
    if (out_h >= place.high.count) continue;
    const float* from = products + 4 * i * p.piece.pitch + out_h * p.piece.size[1];
    for (int j = w & bit_w; j < p.taps.kernel[2] && j <= w; j += 1 + bit_w) {
      const int out_w = (w - j) >> bit_w;
      if (out_w < place.wide.count) total += from[j * p.piece.pitch + out_w];
    }
  }
  return total;
}

// One block per (sample, piece of a plane, plane of inputs); a thread takes two outputs side by
// side, then every 256th input.
template <class T>
__global__ void __launch_bounds__(kConvThreads, kConvBlocks)
    conv_single_dgrad_kernel(const __grid_constant__ DgradParams p) {
  constexpr int kV = kWide<T>;
  const ConvSingleParams& conv = p.conv;
  const ConvTaps& taps = p.taps;
  const DgradPiece& piece = p.piece;
  // in shared memory, so that no registers hold it while products are added
  DgradPlace& place = *shared_memory<DgradPlace>();
  float* weights = shared_memory<float>() + kPlace;
  float* products = weights + kConvThreads;        // [kTaps, pitch]
  float* totals = products + kTaps * piece.pitch;  // [inputs], each one thread's own
  if (threadIdx.x == 0) place = DgradPlace(p, blockIdx.x);
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x) / (piece.size[1] / 2);
  const int column = static_cast<int>(threadIdx.x) % (piece.size[1] / 2) * 2;
  const int outputs = row >= place.high.count ? 0 : place.wide.count - column;
  const T* y = static_cast<const T*>(conv.y) +
               ((place.b * conv.out[0] * conv.out[1] + place.high.first + row) * conv.out[2] +
                place.wide.first + column) *
                   conv.K;
  for (int at = threadIdx.x; at < place.inputs(); at += kConvThreads) totals[at] = 0;
  for (int i = 0; i < taps.kernel[0]; ++i) {
    const int reach = place.plane + static_cast<int>(conv.padding[0]) - i;
    const int d = reach >> (taps.stride[0] - 1);
    if (reach < 0 || (reach & (taps.stride[0] - 1)) != 0 || d >= conv.out[0]) continue;
    const T* from = y + d * conv.out[1] * conv.out[2] * conv.K;
    float sum[kTaps][2] = {};
    for (int first = 0; first < conv.K; first += kConvChannels) {
      __syncthreads();
      load_weights<T>(conv, taps, first, i, weights);
      __syncthreads();
#pragma unroll 1
      for (int c = 0; c < kConvChannels && outputs > 0; c += kV, from += kV) {
        Part<T> g[2];
        load_two(from, conv.K, outputs, g);
        if (taps.kernel[1] == 3 && taps.kernel[2] == 3) {
          add_products<3, T>(g, weights + c * kTaps, sum);
        } else {
          add_products<4, T>(g, weights + c * kTaps, sum);
        }
      }
    }
    if (outputs > 0) {
#pragma unroll
      for (int t = 0; t < kTaps; ++t) {
        store_pack(products + t * piece.pitch + row * piece.size[1] + column, sum[t]);
      }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < place.inputs(); at += kConvThreads) {
      const int width = place.wide.inputs;
      totals[at] += own_products(p, place, products, at / width, at % width);
    }
  }
  T* x = static_cast<T*>(conv.x) + (place.b * conv.in[0] + place.plane) * conv.in[1] * conv.in[2] +
         place.wide.begin;
  for (int at = threadIdx.x; at < place.inputs(); at += kConvThreads) {
    const int64_t h = place.high.begin + at / place.wide.inputs;
    store(x[h * conv.in[2] + at % place.wide.inputs], totals[at]);
  }
}

}  // namespace

int conv_single_dgrad(const ConvSingleParams& p, void* stream) {
  const DgradParams params{p, ConvTaps(p), DgradPiece(p)};
  const DgradPiece& piece = params.piece;
  const int floats = kPlace + kConvThreads + kTaps * piece.pitch + piece.most_inputs(params.taps);
  const int64_t blocks = p.B * p.in[0] * piece.count[0] * piece.count[1];
  const auto run = [&](auto kernel) {
    return launch(kernel, blocks, kConvThreads, floats * sizeof(float), params, stream);
  };
  return p.dtype == Dtype::kBFloat16 ? run(conv_single_dgrad_kernel<BFloat16>)
                                     : run(conv_single_dgrad_kernel<float>);
}

}  // namespace fastgan::cuda
