#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "cpu/conv3d.h"
#include "cpu/conv3d_dgrad_kernels.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kLanes = ConvDgradParams::kLanes;

template <class T>
class Dgrad {
 public:
  explicit Dgrad(const ConvDgradParams& params)
      : p_(params),
        kernel_(conv_dgrad_kernel()),
        pitch_(params.stride[2] * params.C),
        reach_(params.kernel[2] / params.stride[2]),
        places_(params.out[2] + reach_ - 1),
        taps_size_(params.kernel[2] * params.C * params.K),
        row_size_((places_ + reach_ - 1) * params.K),
        taps_(memory(params.kernel[0] * params.kernel[1] * taps_size_)),
        g_(memory(params.B * params.out[0] * params.out[1] * row_size_)) {}

  void run() {
    const int64_t taps = p_.kernel[0] * p_.kernel[1], rows = p_.B * p_.out[0] * p_.out[1];
    const int64_t planes = p_.B * p_.in[0];
#pragma omp parallel num_threads(p_.threads)
    {
      std::vector<float> row(static_cast<size_t>(places_ * pitch_));
#pragma omp for schedule(static) nowait
      for (int64_t i = 0; i < taps; ++i) pack_taps(i);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < rows; ++i) pack_row(i);
#pragma omp for schedule(dynamic)
      for (int64_t i = 0; i < planes; ++i) plane(i / p_.in[0], i % p_.in[0], row.data());
    }
  }

 private:
  // every element is written before it is read
  static std::unique_ptr<float[]> memory(int64_t size) {
    return std::unique_ptr<float[]>(new float[static_cast<size_t>(size)]);
  }

  // Taps [kH, kW, C] of every K -> [pitch / 16, reach, K, 16] of one row of taps.
  void pack_taps(int64_t index) {
    const int64_t length = p_.kernel[2] * p_.C, row = p_.kernel[0] * p_.kernel[1] * length;
    const T* from = static_cast<const T*>(p_.weight) + index * length;
    float* to = taps_.get() + index * taps_size_;
    for (int64_t block = 0; block < pitch_ / kLanes; ++block) {
      for (int64_t t = 0; t < reach_; ++t) {
        const T* tap = from + t * pitch_ + block * kLanes;
        for (int64_t k = 0; k < p_.K; ++k, to += kLanes) {
#pragma omp simd
          for (int64_t i = 0; i < kLanes; ++i) to[i] = load(tap[k * row + i]);
        }
      }
    }
  }

  // A row of g, with reach - 1 zeros on both sides.
  void pack_row(int64_t index) {
    const int64_t size = p_.out[2] * p_.K, beside = (reach_ - 1) * p_.K;
    const T* from = static_cast<const T*>(p_.g) + index * size;
    float* to = g_.get() + index * row_size_;
    std::fill_n(to, beside, 0.0f);
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) to[beside + i] = load(from[i]);
    std::fill_n(to + beside + size, beside, 0.0f);
  }

  // A plane of the inputs; rows that meet the same taps follow each other.
  void plane(int64_t b, int64_t d, float* row) const {
    for (int64_t first = 0; first < std::min(p_.stride[1], p_.in[1]); ++first) {
      for (int64_t h = first; h < p_.in[1]; h += p_.stride[1]) {
        std::fill_n(row, places_ * pitch_, 0.0f);
        for (int64_t i = 0; i < p_.kernel[0]; ++i) {
          const int64_t from_d = output(0, d, i);
          if (from_d < 0) continue;
          for (int64_t j = 0; j < p_.kernel[1]; ++j) {
            const int64_t from_h = output(1, h, j);
            if (from_h < 0) continue;
            const int64_t from = (b * p_.out[0] + from_d) * p_.out[1] + from_h;
            const float* taps = taps_.get() + (i * p_.kernel[1] + j) * taps_size_;
            kernel_({p_.K, places_, pitch_, reach_, g_.get() + from * row_size_, taps}, row);
          }
        }
        write_row((b * p_.in[0] + d) * p_.in[1] + h, row);
      }
    }
  }

  // The output whose tap meets a place along an axis; -1: none.
  int64_t output(int axis, int64_t in, int64_t tap) const {
    const int64_t from = in + p_.padding[axis] - tap * p_.dilation[axis];
    if (from < 0 || from % p_.stride[axis] != 0) return -1;
    const int64_t out = from / p_.stride[axis];
    return out < p_.out[axis] ? out : -1;
  }

  void write_row(int64_t index, const float* row) const {
    T* to = static_cast<T*>(p_.x) + index * p_.in[2] * p_.C;
    const int64_t size = p_.in[2] * p_.C, begin = p_.padding[2] * p_.C;
    // the last voxels may have no output
    const int64_t end = std::clamp<int64_t>(places_ * pitch_ - begin, 0, size);
#pragma omp simd
    for (int64_t i = 0; i < end; ++i) store(to[i], row[begin + i]);
    for (int64_t i = end; i < size; ++i) store(to[i], 0.0f);
  }

  const ConvDgradParams& p_;
  const ConvDgradKernel kernel_;
  const int64_t pitch_, reach_;  // elements of a place, and outputs that meet it
  const int64_t places_;         // of the padded row of inputs
  const int64_t taps_size_, row_size_;
  const std::unique_ptr<float[]> taps_;  // [kD, kH, pitch / 16, reach, K, 16]
  const std::unique_ptr<float[]> g_;     // [B, D', H', places + reach - 1, K]
};

}  // namespace

void conv_dgrad(const ConvDgradParams& params) {
  if (params.dtype == Dtype::kBFloat16) return Dgrad<BFloat16>(params).run();
  Dgrad<float>(params).run();
}

}  // namespace fastgan::cpu
