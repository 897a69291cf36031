// Per-lane constants and sums of norm_act, built and folded for one chunk.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "core/norm_act.h"
#include "cpu/norm_act/kernels.h"
#include "cpu/norm_act/partition.h"

namespace fastgan::cpu {

// One value of a [C] or [B, C] parameter.
inline double affine_at(const NormActAffine& affine, double absent, int64_t b, int64_t c,
                        int64_t C) {
  if (!affine.data) return absent;
  const int64_t index = affine.per_sample ? b * C + c : c;
  switch (affine.dtype) {
    case Dtype::kFloat64:
      return static_cast<const double*>(affine.data)[index];
    case Dtype::kBFloat16:
      return load(static_cast<const BFloat16*>(affine.data)[index]);
    default:
      return static_cast<const float*>(affine.data)[index];
  }
}

// Writes a gradient from its per-sample values: as they are, or their sum over B in order.
inline void write_gradient(const NormActAffineGradient& to, const double* values /* [B, C] */,
                           int64_t B, int64_t C) {
  if (!to.data) return;
  const int64_t size = to.per_sample ? B * C : C;
  for (int64_t i = 0; i < size; ++i) {
    double value = values[i];
    for (int64_t b = 1; b < B && !to.per_sample; ++b) value += values[b * C + i];
    switch (to.dtype) {
      case Dtype::kFloat64:
        static_cast<double*>(to.data)[i] = value;
        break;
      case Dtype::kBFloat16:
        store(static_cast<BFloat16*>(to.data)[i], static_cast<float>(value));
        break;
      default:
        static_cast<float*>(to.data)[i] = static_cast<float>(value);
    }
  }
}

// The same of nothing: zeros.
inline void write_zeros(const NormActAffineGradient& to, int64_t B, int64_t C) {
  if (!to.data) return;
  const int64_t rows = to.per_sample ? B : 1;
  const auto zeros = std::make_unique<double[]>(static_cast<size_t>(rows * C));
  write_gradient(to, zeros.get(), rows, C);
}

// The lane memory of one thread.
template <class A>
class LaneMemory {
 public:
  static constexpr int64_t kConstants = 10, kSums = 5;

  LaneMemory(int64_t lanes, A* constants, double* sums, int64_t* held)
      : sums(sums), lanes_(lanes), held_(held) {
    const auto next = [&] { return std::exchange(constants, constants + lanes); };
    constant.mean = next();
    constant.scale = next();
    constant.bias = next();
    for (A*& table : constant.first) table = next();
    for (A*& table : constant.second) table = next();
  }

  // to[j] = value(c) for the channel c of lane j
  template <class Value>
  void fill(A* to, int64_t channel, int64_t width, const Value& value) const {
    for (int64_t j = 0; j < width; ++j) to[j] = static_cast<A>(value(channel + j));
    for (int64_t j = width; j < lanes_; ++j) to[j] = to[j - width];
  }

  // Calls fill(), which fills in the constants of a step on a chunk, unless they are here from the
  // chunk before.
  template <class Fill>
  void once(int64_t step, const NormActChunk& chunk, const Fill& fill) const {
    const int64_t wanted[] = {step, chunk.b, chunk.channel};
    if (std::equal(wanted, wanted + kHeld, held_)) return;
    fill();
    std::copy(wanted, wanted + kHeld, held_);
  }

  NormActLanes<A> constant;
  double* sums;  // [kSums, lanes]

  // step, sample and channel that the constants are of
  static constexpr int64_t kHeld = 3;

 private:
  int64_t lanes_;
  int64_t* held_;
};

// Lane memory for all threads.
template <class A>
class LaneArena {
 public:
  explicit LaneArena(const NormActPartition& part)
      : lanes_(part.lanes),
        constants_(uninitialised<A>(part.threads * kConstants * lanes_)),
        sums_(uninitialised<double>(part.threads * LaneMemory<A>::kSums * lanes_)),
        held_(uninitialised<int64_t>(part.threads * kHeld)) {
    std::fill_n(held_.get(), part.threads * kHeld, int64_t{-1});
  }

  LaneMemory<A> of(int64_t thread) const {
    return LaneMemory<A>(lanes_, constants_.get() + thread * kConstants * lanes_,
                         sums_.get() + thread * LaneMemory<A>::kSums * lanes_,
                         held_.get() + thread * kHeld);
  }

 private:
  static constexpr int64_t kConstants = LaneMemory<A>::kConstants;
  // a cache line of its own for each thread
  static constexpr int64_t kHeld = 8;
  int64_t lanes_;
  std::unique_ptr<A[]> constants_;
  std::unique_ptr<double[]> sums_;
  std::unique_ptr<int64_t[]> held_;
};

// totals [count, width] = sums over the lanes of each channel; part of [count, size] sums.
inline void fold_lanes(const double* sums, int64_t size, int64_t count, int64_t width,
                       double* totals) {
  for (int64_t s = 0; s < count; ++s) {
    for (int64_t j = 0; j < size; j += width) {
      for (int64_t c = 0; c < width; ++c) totals[s * width + c] += sums[s * size + j + c];
    }
  }
}

// Mean and sum of squared distances per channel: `tiles` tiles of [lanes] means and m2, and a rest
// of single values [rest]. All have whole rows of `width` channels.
template <class T>
void fold_moments(const double* mean, const double* m2, int64_t lanes, int64_t tiles, const T* rest,
                  int64_t rest_size, int64_t width, double* out_mean, double* out_m2) {
  const double n = static_cast<double>(tiles);
  const int64_t used = tiles > 0 ? lanes : 0;
  const double count =
      n * static_cast<double>(lanes / width) + static_cast<double>(rest_size / width);
  std::fill_n(out_mean, width, 0.0);
  std::fill_n(out_m2, width, 0.0);
  for (int64_t j = 0; j < used; j += width) {
    for (int64_t c = 0; c < width; ++c) out_mean[c] += n * mean[j + c];
  }
  for (int64_t j = 0; j < rest_size; j += width) {
    for (int64_t c = 0; c < width; ++c) out_mean[c] += load(rest[j + c]);
  }
  for (int64_t c = 0; c < width; ++c) out_mean[c] /= count;
  for (int64_t j = 0; j < used; j += width) {
    for (int64_t c = 0; c < width; ++c) {
      const double distance = mean[j + c] - out_mean[c];
      out_m2[c] += m2[j + c] + n * distance * distance;
    }
  }
  for (int64_t j = 0; j < rest_size; j += width) {
    for (int64_t c = 0; c < width; ++c) {
      const double distance = load(rest[j + c]) - out_mean[c];
      out_m2[c] += distance * distance;
    }
  }
}

}  // namespace fastgan::cpu
