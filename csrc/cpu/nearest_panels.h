// Rows brought into the form that the tile kernel multiplies.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/nearest_state.h"

namespace fastgan::cpu {

// int16 and float64 memory on cache lines.
template <class V>
class NearestMemory {
 public:
  explicit NearestMemory(int64_t size)
      : data_(static_cast<V*>(::operator new(static_cast<size_t>(size) * sizeof(V), kAlign))) {}
  V* get() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlign{64};
  struct Free {
    void operator()(V* data) const { ::operator delete(data, kAlign); }
  };
  std::unique_ptr<V, Free> data_;
};

// What the chunks of a row add up to.
struct NearestRowSums {
  double squares = 0, residual_squares = 0;

  void add(const NearestChunk& chunk) {
    squares += chunk.squares;
    residual_squares += chunk.residual * chunk.residual;
  }
  void add(const NearestRowSums& other) {
    squares += other.squares;
    residual_squares += other.residual_squares;
  }
  // Sums of up to 2^20 chunks are off by less than the factor.
  NearestRow row() const { return {squares, std::sqrt(residual_squares) * (1 + 1e-9)}; }
};

// Mean of some target rows [F], taken off all rows so that few bits are spent on what they share.
// Any center is right; a good one keeps the bounds close. Empty for integers.
class NearestCenter {
 public:
  explicit NearestCenter(const NearestProblem& problem)
      : element_(problem.kernels.center),
        data_(static_cast<size_t>(problem.p.F * problem.kernels.center)) {
    const NearestParams& p = problem.p;
    if (problem.exact) return;
    const int64_t rows = std::min<int64_t>(p.M, p.F <= kNearestWideFeatures ? 16 : 4);
#pragma omp parallel for num_threads(p.threads) if (p.threads > 1 && problem.segments > 1)
    for (int64_t s = 0; s < problem.segments; ++s) {
      const int64_t f = s * kNearestSegment, n = std::min(kNearestSegment, p.F - f);
      problem.kernels.mean(problem.target(0, f), rows, p.M / rows * p.F, n,
                           data_.data() + f * element_);
    }
  }
  const void* at(int64_t f) const { return element_ ? data_.data() + f * element_ : nullptr; }

 private:
  int64_t element_;
  std::vector<char> data_;
};

// Scratch of one thread: rows rounded and packed, one chunk at a time.
class NearestPacker {
 public:
  NearestPacker(const NearestProblem& problem, const NearestCenter& center)
      : problem_(&problem),
        center_(&center),
        rows_(kNearestMaxPanel * kNearestChunk),
        halves_(2 * kNearestMaxPanel * kNearestChunk),
        half_scale_(2 * kNearestMaxPanel) {}

  // Rounds n features of a row, which start at `row` and are f and on, into row i of the scratch.
  NearestChunk round(const void* row, int64_t f, int64_t n, int64_t i) const {
    return problem_->kernels.quantise(row, center_->at(f), n, rows_.get() + i * kNearestChunk);
  }
  void zero(int64_t i) const {
    std::fill_n(rows_.get() + i * kNearestChunk, kNearestChunk, int16_t{0});
  }

  void pack_queries(int16_t* panel) const {
    const int16_t* rows[kNearestTileRows];
    for (int64_t i = 0; i < kNearestTileRows; ++i) rows[i] = rows_.get() + i * kNearestChunk;
    dots_.pack_queries(rows, panel);
  }
  void pack_targets(int64_t vectors, int16_t* panel) const {
    const int16_t* rows[kNearestMaxPanel];
    for (int64_t i = 0; i < vectors * dots_.lanes; ++i) rows[i] = rows_.get() + i * kNearestChunk;
    dots_.pack_targets(rows, vectors, panel);
  }

  // Gets ready to multiply a packed panel of targets with queries of at most `query_largest`. Their
  // sums over a range of features stay below 2^31; where no range is short enough for that, the
  // targets are split into 256 high + low.
  void prepare(const int16_t* panel, const double* scale, int64_t vectors, int64_t query_largest,
               int64_t target_largest) {
    vectors_ = vectors;
    terms_ = 1;
    panel_[0] = panel;
    scale_[0] = scale;
    step_ = step(query_largest * target_largest);
    if (step_ >= kLeastStep) return;
    const int64_t width = vectors * dots_.lanes, size = width * kNearestChunk;
    int16_t* high = halves_.get();
    int16_t* low = high + size;
    for (int64_t i = 0; i < size; ++i) {
      high[i] = static_cast<int16_t>((panel[i] + 128) >> 8);
      low[i] = static_cast<int16_t>(panel[i] - 256 * high[i]);
    }
    double* high_scale = half_scale_.get();
    for (int64_t i = 0; i < width; ++i) high_scale[i] = 256 * scale[i];
    terms_ = 2;
    panel_[0] = high;
    panel_[1] = low;
    scale_[0] = high_scale;
    scale_[1] = scale;
    step_ = step(query_largest * 128);
  }

  // acc += dots of a packed panel of queries with the prepared targets, over n features.
  void multiply(const int16_t* queries, const double* query_scale, int64_t n, double* acc) const {
    // whole steps of the kernel; what lies behind n is zero
    const int64_t pairs = (n + 3) / 4 * 2;
    for (int term = 0; term < terms_; ++term) {
      for (int64_t begin = 0; begin < pairs; begin += step_) {
        dots_.tile(queries, panel_[term], vectors_, begin, std::min(begin + step_, pairs),
                   query_scale, scale_[term], acc);
      }
    }
  }

  const NearestDotKernels& dots() const { return dots_; }

 private:
  static constexpr int64_t kLeastStep = 16;

  // Pairs of features, an even number of them, over which sums of products stay below 2^31.
  static int64_t step(int64_t product) {
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    if (product == 0) return kNearestChunk / 2;
    return std::min(kMost / (4 * product) * 2, kNearestChunk / 2);
  }

  const NearestProblem* problem_;
  const NearestCenter* center_;
  NearestDotKernels dots_ = nearest_dot_kernels();
  NearestMemory<int16_t> rows_, halves_;
  NearestMemory<double> half_scale_;
  int64_t vectors_ = 0, step_ = 0;
  int terms_ = 0;
  const int16_t* panel_[2] = {};
  const double* scale_[2] = {};
};

}  // namespace fastgan::cpu
