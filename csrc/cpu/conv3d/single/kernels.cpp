// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/conv3d/single/kernels.h"

#include <type_traits>

#include "cpu/conv3d/lanes.h"

namespace fastgan::cpu {
namespace {

// Voxels worked on at once: accumulators fill three quarters of the registers.
constexpr int kVoxels = kVectorBytes == 16 ? 3 : 6;
constexpr int kLanes = ConvSingleParams::kLanes;

// Calls body<N>(first voxel) for groups of kVoxels, then one by one.
template <class Body>
FASTGAN_INLINE inline void for_voxels(int64_t width, const Body& body) {
  int64_t o = 0;
  for (; o + kVoxels <= width; o += kVoxels) body(o, std::integral_constant<int, kVoxels>());
  for (; o < width; ++o) body(o, std::integral_constant<int, 1>());
}

template <class T>
void fprop(const ConvSingleRow& r, const float* x, const float* weight, const float* bias, T* y) {
  const int64_t taps = r.kernel[0] * r.kernel[1] * r.kernel[2];
  for (int64_t block = 0; block < r.K / kLanes; ++block) {
    const Lanes start = read(bias + block * kLanes);
    for_voxels(r.width, [&](int64_t o, auto count) FASTGAN_INLINE {
      constexpr int N = decltype(count)::value;
      Lanes sum[N];
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) sum[v] = start;
      const float* w = weight + block * taps * kLanes;
      for (int64_t d = 0; d < r.kernel[0]; ++d) {
        for (int64_t h = 0; h < r.kernel[1]; ++h) {
          const float* from = x + d * r.plane + h * r.row + o * r.stride;
          for (int64_t t = 0; t < r.kernel[2]; ++t, w += kLanes) {
            const Lanes tap = read(w);
#pragma GCC unroll 16
            for (int v = 0; v < N; ++v) sum[v].add_product(tap, from[v * r.stride + t]);
          }
        }
      }
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) write(y + (o + v) * r.K + block * kLanes, sum[v]);
    });
  }
}

typedef float Four __attribute__((vector_size(16), may_alias));

// to[o kStride + t] += taps[o][t]. A window of four sums slides along, so that no sum is read back
// from memory while it is being written.
template <int kStride>
FASTGAN_INLINE inline void overlap(const float* taps, int64_t width, float* to) {
  Four window = {};
  for (int64_t o = 0; o < width; ++o, to += kStride) {
    Four next;
    __builtin_memcpy(&next, taps + o * kLanes, sizeof(next));
    window += next;
#pragma GCC unroll 16
    for (int i = 0; i < kStride; ++i) to[i] += window[i];
    window =
        kStride == 1 ? Four{window[1], window[2], window[3], 0} : Four{window[2], window[3], 0, 0};
  }
  for (int i = 0; i < 4 - kStride; ++i) to[i] += window[i];
}

template <class T>
void dgrad(const ConvSingleRow& r, const T* g, const float* weight, float* scratch, float* to) {
  for_voxels(r.width, [&](int64_t o, auto count) FASTGAN_INLINE {
    constexpr int N = decltype(count)::value;
    Lanes sum[N];
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) sum[v] = Lanes{};
    const T* from = g + o * r.K;
    for (int64_t k = 0; k < r.K; ++k) {
      const Lanes tap = read(weight + k * kLanes);
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) sum[v].add_product(tap, load(from[v * r.K + k]));
    }
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) write(scratch + (o + v) * kLanes, sum[v]);
  });
  for (int64_t h = 0; h < r.kernel[1]; ++h) {
    if (r.stride == 1) {
      overlap<1>(scratch + 4 * h, r.width, to + h * r.row);
    } else {
      overlap<2>(scratch + 4 * h, r.width, to + h * r.row);
    }
  }
}

template <class T>
void wgrad(const ConvSingleRow& r, const T* g, const float* x, float* sums) {
  for (int64_t d = 0; d < r.kernel[0]; ++d) {
    for (int64_t h = 0; h < r.kernel[1]; ++h) {
      for (int64_t block = 0; block < r.K / kLanes; ++block, sums += 4 * kLanes) {
        Lanes sum[4];
#pragma GCC unroll 16
        for (int t = 0; t < 4; ++t) sum[t] = read(sums + t * kLanes);
        const float* from = x + d * r.plane + h * r.row;
        const T* gradient = g + block * kLanes;
        for (int64_t o = 0; o < r.width; ++o, from += r.stride, gradient += r.K) {
          const Lanes value = read(gradient);
          // with three taps the fourth sum is of what lies behind them, and nobody reads it
#pragma GCC unroll 16
          for (int t = 0; t < 4; ++t) sum[t].add_product(value, from[t]);
        }
#pragma GCC unroll 16
        for (int t = 0; t < 4; ++t) write(sums + t * kLanes, sum[t]);
      }
    }
  }
}

}  // namespace

namespace FASTGAN_ISA {

template <class T>
ConvSingleKernels<T> conv_single_kernels() {
  return {&fprop<T>, &dgrad<T>, &wgrad<T>};
}

template ConvSingleKernels<float> conv_single_kernels();
template ConvSingleKernels<BFloat16> conv_single_kernels();

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
