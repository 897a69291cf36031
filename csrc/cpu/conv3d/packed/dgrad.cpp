#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/aligned.h"
#include "cpu/conv3d/conv3d.h"
#include "cpu/conv3d/packed/fprop_dgrad_kernels.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kLanes = ConvPackedDgradParams::kLanes;

template <class T>
class Dgrad {
 public:
  explicit Dgrad(const ConvPackedDgradParams& params)
      : p_(params),
        kernel_(conv_packed_places_kernel()),
        pitch_(params.stride[2] * params.C),
        reach_(params.kernel[2] / params.stride[2]),
        places_(params.out[2] + reach_ - 1),
        together_(std::clamp<int64_t>(kConvPackedPlaces / places_, 1, params.B)),
        taps_size_(params.kernel[2] * params.C * params.K),
        row_size_((places_ + reach_ - 1) * params.K),
        taps_(aligned_floats(params.kernel[0] * params.kernel[1] * taps_size_)),
        g_(aligned_floats(params.B * params.out[0] * params.out[1] * row_size_)) {
    for (int64_t lane = 0; lane < pitch_; lane += kLanes) list_places(lane);
  }

  void run() {
    const int64_t taps = p_.kernel[0] * p_.kernel[1], rows = p_.B * p_.out[0] * p_.out[1];
    const int64_t phases = std::min(p_.stride[1], p_.in[1]), planes = p_.in[0] * phases;
    const int64_t items = (p_.B + together_ - 1) / together_ * planes;
#pragma omp parallel num_threads(p_.threads)
    {
      const AlignedFloats sums = aligned_floats(together_ * places_ * pitch_);
#pragma omp for schedule(static) nowait
      for (int64_t i = 0; i < taps; ++i) pack_taps(i);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < rows; ++i) pack_row(i);
#pragma omp for schedule(dynamic)
      for (int64_t i = 0; i < items; ++i) {
        plane(i / planes * together_, i % planes / phases, i % phases, sums.get());
      }
    }
  }

 private:
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
    const int64_t size = p_.out[2] * p_.K;
    pack_padded(static_cast<const T*>(p_.g) + index * size, size, (reach_ - 1) * p_.K,
                g_.get() + index * row_size_);
  }

  // The places of 16 lanes from `lane` on that are voxels of the inputs, sample by sample.
  void list_places(int64_t lane) {
    const int64_t first = lane / p_.C, last = (lane + kLanes - 1) / p_.C;
    const int64_t sample = p_.out[0] * p_.out[1] * row_size_;
    std::vector<int64_t> from, to;
    for (int64_t b = 0; b < together_; ++b) {
      for (int64_t place = 0; place < places_; ++place) {
        const int64_t voxel = place * p_.stride[2] - p_.padding[2];
        if (voxel + last < 0 || voxel + first >= p_.in[2]) continue;
        from.push_back(b * sample + (place + reach_ - 1) * p_.K);
        to.push_back((b * places_ + place) * pitch_ + lane);
      }
    }
    from_.push_back(std::move(from));
    to_.push_back(std::move(to));
  }

  // Every stride-th row of plane d of the inputs, from row `first` on, of the samples from b on:
  // they all meet the same taps.
  void plane(int64_t b, int64_t d, int64_t first, float* sums) const {
    const int64_t samples = std::min(together_, p_.B - b);
    for (int64_t h = first; h < p_.in[1]; h += p_.stride[1]) {
      std::fill_n(sums, samples * places_ * pitch_, 0.0f);
      for (int64_t i = 0; i < p_.kernel[0]; ++i) {
        const int64_t from_d = output(0, d, i);
        if (from_d < 0) continue;
        for (int64_t j = 0; j < p_.kernel[1]; ++j) {
          const int64_t from_h = output(1, h, j);
          if (from_h < 0) continue;
          const int64_t from = (b * p_.out[0] + from_d) * p_.out[1] + from_h;
          add(samples, g_.get() + from * row_size_,
              taps_.get() + (i * p_.kernel[1] + j) * taps_size_, sums);
        }
      }
      for (int64_t sample = 0; sample < samples; ++sample) {
        const int64_t row = ((b + sample) * p_.in[0] + d) * p_.in[1] + h;
        write_row(row, sums + sample * places_ * pitch_);
      }
    }
  }

  // One row of outputs of every sample, through one row of taps.
  void add(int64_t samples, const float* g, const float* taps, float* sums) const {
    for (size_t block = 0; block < from_.size(); ++block, taps += reach_ * p_.K * kLanes) {
      const int64_t count = static_cast<int64_t>(from_[block].size()) / together_ * samples;
      kernel_({p_.K, reach_, count, from_[block].data(), to_[block].data(), g, taps}, sums);
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

  const ConvPackedDgradParams& p_;
  const ConvPackedPlacesKernel kernel_;
  const int64_t pitch_, reach_;  // elements of a place, and outputs that meet it
  const int64_t places_;         // of the padded row of inputs
  const int64_t together_;       // samples
  const int64_t taps_size_, row_size_;
  // every element is written before it is read
  const AlignedFloats taps_;  // [kD, kH, pitch / 16, reach, K, 16]
  const AlignedFloats g_;     // [B, D', H', places + reach - 1, K]
  // of every 16 lanes of a place: as in ConvPackedPlaces
  std::vector<std::vector<int64_t>> from_, to_;
};

}  // namespace

void conv_packed_dgrad(const ConvPackedDgradParams& params) {
  if (params.dtype == Dtype::kBFloat16) return Dgrad<BFloat16>(params).run();
  Dgrad<float>(params).run();
}

}  // namespace fastgan::cpu
