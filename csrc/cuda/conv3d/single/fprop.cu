// Convolution of one channel to 16 n: inputs of a tile are read once, outputs written once.
#include <cstdint>

#include "cuda/conv3d/conv3d.h"
#include "cuda/conv3d/single/tile.cuh"

namespace fastgan::cuda {
namespace {

constexpr int kQuadBits = 7;  // two threads a quad
// Floats from one tap's 16 weights to the next: written by columns, 20 meet fewer banks twice.
constexpr int kTapPitch = 20;

struct FpropParams {
  ConvSingleParams conv;
  ConvTaps taps;
  ConvTile tile;
};

// weight [16, taps] of 16 channels to shared memory [taps, kTapPitch].
template <class T>
__device__ void load_weights(const T* weight, int taps, float* to) {
  for (int i = threadIdx.x; i < kConvChannels * taps; i += kConvThreads) {
    to[i % taps * kTapPitch + i / taps] = load(weight[i]);
  }
}

// One block per (sample, tile), with all channels in turn; a thread takes a quad and a half.
template <class T, int S>
__global__ void __launch_bounds__(kConvThreads, kConvBlocks)
    conv_single_fprop_kernel(const __grid_constant__ FpropParams p) {
  float* inputs = shared_memory<float>();
  float* weights = inputs + p.tile.floats();
  const ConvSingleParams& conv = p.conv;
  const ConvPlace place(conv, p.tile, blockIdx.x);
  load_inputs<T>(conv, p.taps, p.tile, place, inputs);
  const int half = threadIdx.x % 2, index = threadIdx.x / 2;
  const ConvQuad quad(p.tile, index);
  const bool inside =
      index < p.tile.quads() && quad.out[0] < place.left[0] && quad.out[1] < place.left[1];
  const int voxels = inside ? place.left[2] - quad.out[2] : 0;
  const float* from = inputs + (inside ? quad.input(p.tile, p.taps) : 0);
  const T* weight = static_cast<const T*>(conv.weight);
  const T* bias = static_cast<const T*>(conv.bias);
  T* y =
      static_cast<T*>(conv.y) + place.output(conv, quad.out[0], quad.out[1], quad.out[2]) * conv.K;
  for (int64_t first = 0; first < conv.K; first += kConvChannels) {
    __syncthreads();
    load_weights(weight + first * p.taps.count(), p.taps.count(), weights);
    __syncthreads();
    if (voxels <= 0) continue;
    float sum[kQuad][kHalf];
#pragma unroll
    for (int c = 0; c < kHalf; ++c) {
      const int64_t k = first + four_channels<T>(half, c / 4) + c % 4;
      const float start = bias ? load(bias[k]) : 0.0f;
#pragma unroll
      for (int v = 0; v < kQuad; ++v) sum[v][c] = start;
    }
    const float* tap = weights;
    for (int i = 0; i < p.taps.kernel[0]; ++i) {
      for (int j = 0; j < p.taps.kernel[1]; ++j) {
        float window[kWindow<S>];
        load_window<S>(from + (i * p.tile.rows + j) * p.tile.pitch, window);
#pragma unroll
        for (int t = 0; t < 4; ++t) {
          if (t == 3 && p.taps.kernel[2] == 3) break;
          float by[kHalf];
          load_half<T>(tap + t * kTapPitch, half, by);
#pragma unroll
          for (int v = 0; v < kQuad; ++v) {
#pragma unroll
            for (int c = 0; c < kHalf; ++c) sum[v][c] += window[v * S + t] * by[c];
          }
        }
        tap += p.taps.kernel[2] * kTapPitch;
      }
    }
    constexpr int kV = kWide<T>;
#pragma unroll
    for (int v = 0; v < kQuad; ++v) {
      if (v >= voxels) break;
#pragma unroll
      for (int c = 0; c < kHalf; c += kV) {
        float part[kV];
#pragma unroll
        for (int i = 0; i < kV; ++i) part[i] = sum[v][c + i];
        store_global(y + v * conv.K + first + four_channels<T>(half, c / 4), part);
      }
    }
  }
}

}  // namespace

int conv_single_fprop(const ConvSingleParams& p, void* stream) {
  const FpropParams params{p, ConvTaps(p), ConvTile(p, kQuadBits)};
  const int floats = params.tile.floats() + params.taps.count() * kTapPitch;
  return by_stride(p, [&](auto type, auto stride) {
    return launch(conv_single_fprop_kernel<decltype(type), stride>, p.B * params.tile.tiles(),
                  kConvThreads, floats * sizeof(float), params, stream);
  });
}

}  // namespace fastgan::cuda
