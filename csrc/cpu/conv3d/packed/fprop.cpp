#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/aligned.h"
#include "cpu/conv3d/conv3d.h"
#include "cpu/conv3d/packed/fprop_dgrad_kernels.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kLanes = ConvPackedFpropParams::kLanes;

// Elements of a weight that are packed at once: long enough that memory is read in order.
constexpr int64_t kStretch = 128;

typedef float Four __attribute__((vector_size(16)));

// Elements of a, numbered from 0, and b, numbered from 4.
template <int I, int J, int K, int L>
Four shuffled(Four a, Four b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, I, J, K, L);
#else
  typedef int32_t Order __attribute__((vector_size(16)));
  return __builtin_shuffle(a, b, Order{I, J, K, L});
#endif
}

// to [j, i] = from [i, j], both [16, 16]; rows of `from` lie kStretch apart.
void turn(const float* from, float* to) {
  typedef float Anywhere __attribute__((vector_size(16), aligned(4), may_alias));
  for (int64_t i = 0; i < kLanes; i += 4) {
    for (int64_t j = 0; j < kLanes; j += 4) {
      Four row[4];
      for (int64_t n = 0; n < 4; ++n) {
        row[n] = *reinterpret_cast<const Anywhere*>(from + (i + n) * kStretch + j);
      }
      const Four low01 = shuffled<0, 4, 1, 5>(row[0], row[1]);
      const Four low23 = shuffled<0, 4, 1, 5>(row[2], row[3]);
      const Four high01 = shuffled<2, 6, 3, 7>(row[0], row[1]);
      const Four high23 = shuffled<2, 6, 3, 7>(row[2], row[3]);
      const Four column[] = {shuffled<0, 1, 4, 5>(low01, low23), shuffled<2, 3, 6, 7>(low01, low23),
                             shuffled<0, 1, 4, 5>(high01, high23),
                             shuffled<2, 3, 6, 7>(high01, high23)};
      for (int64_t n = 0; n < 4; ++n) {
        *reinterpret_cast<Anywhere*>(to + (j + n) * kLanes + i) = column[n];
      }
    }
  }
}

template <class T>
class Fprop {
 public:
  explicit Fprop(const ConvPackedFpropParams& params)
      : p_(params),
        kernel_(conv_packed_places_kernel()),
        run_(params.kernel[2] * params.C),
        blocks_(params.K / kLanes),
        together_(std::clamp<int64_t>(kConvPackedPlaces / params.out[2], 1, params.B)),
        row_size_((params.in[2] + 2 * params.padding[2]) * params.C),
        taps_(aligned_floats(params.kernel[0] * params.kernel[1] * params.K * run_)),
        x_(aligned_floats(params.B * params.in[0] * params.in[1] * row_size_)) {
    const int64_t sample = p_.in[0] * p_.in[1] * row_size_;
    for (int64_t b = 0; b < together_; ++b) {
      for (int64_t w = 0; w < p_.out[2]; ++w) {
        from_.push_back(b * sample + w * p_.stride[2] * p_.C);
        to_.push_back((b * p_.out[2] + w) * kLanes);
      }
    }
  }

  void run() {
    const int64_t rows = p_.B * p_.in[0] * p_.in[1];
    const int64_t groups = (p_.B + together_ - 1) / together_;
    const int64_t items = blocks_ * groups * p_.out[0];
#pragma omp parallel num_threads(p_.threads)
    {
      const AlignedFloats sums = aligned_floats(together_ * p_.out[1] * p_.out[2] * kLanes);
#pragma omp for schedule(static) nowait
      for (int64_t i = 0; i < blocks_; ++i) pack_taps(i);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < rows; ++i) pack_row(i);
      // items of one block one after the other: its taps stay in the cache
#pragma omp for schedule(dynamic)
      for (int64_t i = 0; i < items; ++i) {
        plane(i / p_.out[0] / groups, i / p_.out[0] % groups * together_, i % p_.out[0],
              sums.get());
      }
    }
  }

 private:
  // Taps of 16 of the K [K, kD, kH, kW C] -> [kD, kH, kW C, 16].
  void pack_taps(int64_t block) {
    const int64_t size = p_.kernel[0] * p_.kernel[1] * run_;
    const T* from = static_cast<const T*>(p_.weight) + block * kLanes * size;
    float* to = taps_.get() + block * kLanes * size;
    float rows[kLanes * kStretch] = {}, turned[kLanes * kLanes];
    for (int64_t begin = 0; begin < size; begin += kStretch) {
      const int64_t stretch = std::min(kStretch, size - begin);
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        for (int64_t j = 0; j < stretch; ++j) {
          rows[lane * kStretch + j] = load(from[lane * size + begin + j]);
        }
      }
      for (int64_t j = 0; j < stretch; j += kLanes) {
        turn(rows + j, turned);
        to = std::copy_n(turned, std::min(kLanes, stretch - j) * kLanes, to);
      }
    }
  }

  // A row of x with its padding.
  void pack_row(int64_t index) {
    const int64_t size = p_.in[2] * p_.C;
    pack_padded(static_cast<const T*>(p_.x) + index * size, size, p_.padding[2] * p_.C,
                x_.get() + index * row_size_);
  }

  // 16 channels of plane d of the outputs, of the samples from b on. All rows of a plane pass by a
  // row of taps while it is in the cache.
  void plane(int64_t block, int64_t b, int64_t d, float* sums) const {
    const int64_t samples = std::min(together_, p_.B - b), count = samples * p_.out[2];
    float first[kLanes] = {};
    if (p_.bias) {
      const T* bias = static_cast<const T*>(p_.bias) + block * kLanes;
      for (int64_t lane = 0; lane < kLanes; ++lane) first[lane] = load(bias[lane]);
    }
    for (int64_t i = 0; i < p_.out[1] * count; ++i) std::copy_n(first, kLanes, sums + i * kLanes);
    const float* taps = taps_.get() + block * p_.kernel[0] * p_.kernel[1] * run_ * kLanes;
    for (int64_t i = 0; i < p_.kernel[0]; ++i) {
      const int64_t from_d = d * p_.stride[0] - p_.padding[0] + i * p_.dilation[0];
      if (from_d < 0 || from_d >= p_.in[0]) continue;
      for (int64_t j = 0; j < p_.kernel[1]; ++j) {
        for (int64_t h = 0; h < p_.out[1]; ++h) {
          const int64_t from_h = h * p_.stride[1] - p_.padding[1] + j * p_.dilation[1];
          if (from_h < 0 || from_h >= p_.in[1]) continue;
          const int64_t from = (b * p_.in[0] + from_d) * p_.in[1] + from_h;
          kernel_({run_, 1, count, from_.data(), to_.data(), x_.get() + from * row_size_,
                   taps + (i * p_.kernel[1] + j) * run_ * kLanes},
                  sums + h * count * kLanes);
        }
      }
    }
    for (int64_t h = 0; h < p_.out[1]; ++h) {
      for (int64_t sample = 0; sample < samples; ++sample) {
        const int64_t row = ((b + sample) * p_.out[0] + d) * p_.out[1] + h;
        write_row(row, block, sums + (h * samples + sample) * p_.out[2] * kLanes);
      }
    }
  }

  // 16 channels of a row of outputs.
  void write_row(int64_t index, int64_t block, const float* sums) const {
    T* to = static_cast<T*>(p_.y) + index * p_.out[2] * p_.K + block * kLanes;
    for (int64_t w = 0; w < p_.out[2]; ++w, to += p_.K, sums += kLanes) {
#pragma omp simd
      for (int64_t i = 0; i < kLanes; ++i) store(to[i], sums[i]);
    }
  }

  const ConvPackedFpropParams& p_;
  const ConvPackedPlacesKernel kernel_;
  const int64_t run_;       // elements that a row of taps meets
  const int64_t blocks_;    // of 16 channels
  const int64_t together_;  // samples
  const int64_t row_size_;
  // every element is written before it is read
  const AlignedFloats taps_;        // [K / 16, kD, kH, kW C, 16]
  const AlignedFloats x_;           // [B, D, H, padded W, C]
  std::vector<int64_t> from_, to_;  // as in ConvPackedPlaces
};

}  // namespace

void conv_packed_fprop(const ConvPackedFpropParams& params) {
  if (params.dtype == Dtype::kBFloat16) return Fprop<BFloat16>(params).run();
  Fprop<float>(params).run();
}

}  // namespace fastgan::cpu
