// Rows brought into the form that the dot kernels multiply.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/nearest/state.h"

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

// The chunk of targets [rows] from row j that starts at feature f; nothing from `stop` on.
inline NearestAhead nearest_ahead(const NearestProblem& problem, int64_t j, int64_t rows, int64_t f,
                                  int64_t stop) {
  if (f >= stop) return {};
  const int64_t element = problem.kernels.element;
  const int64_t bytes = std::min(kNearestChunk, stop - f) * element;
  return {static_cast<const char*>(problem.target(j, f)), rows, problem.p.F * element,
          (bytes + kNearestLine - 1) / kNearestLine};
}

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

// One thread's products of rounded rows; a panel of targets is prepared, then multiplied.
class NearestProducts {
 public:
  explicit NearestProducts(const NearestDotKernels& dots)
      : dots_(dots), halves_(2 * kNearestPanel * kNearestChunk), half_scale_(kNearestPanel) {}

  // Gets ready to multiply targets [rows, kNearestChunk], rows a multiple of kNearestTileTargets,
  // with queries of at most `query_largest`. A lane's sum over a range of features stays below
  // 2^31; where no range is short enough for that, the targets are split into 256 high + low.
  void prepare(const int16_t* targets, const double* scale, int64_t rows, int64_t query_largest,
               int64_t target_largest) {
    rows_ = rows;
    terms_ = 1;
    targets_[0] = targets;
    scale_[0] = scale;
    step_ = step(query_largest * target_largest);
    if (step_ >= kLeastStep) return;
    int16_t* high = halves_.get();
    int16_t* low = high + kNearestPanel * kNearestChunk;
    for (int64_t i = 0; i < rows * kNearestChunk; ++i) {
      high[i] = static_cast<int16_t>((targets[i] + 128) >> 8);
      low[i] = static_cast<int16_t>(targets[i] - 256 * high[i]);
    }
    double* high_scale = half_scale_.get();
    for (int64_t i = 0; i < rows; ++i) high_scale[i] = 256 * scale[i];
    terms_ = 2;
    targets_[0] = high;
    targets_[1] = low;
    scale_[0] = high_scale;
    scale_[1] = scale;
    step_ = step(query_largest * 128);
  }

  // sums [count, rows] += dots of queries [count, kNearestChunk] with the prepared targets, over n
  // features; asks for `ahead` meanwhile.
  void multiply(const int16_t* queries, const double* query_scale, int64_t count, int64_t n,
                double* sums, int64_t stride, const NearestAhead& ahead = {}) const {
    // whole vectors; what lies behind n is zero
    const int64_t stop = (n + kNearestVector - 1) / kNearestVector * kNearestVector;
    for (int term = 0; term < terms_; ++term) {
      for (int64_t begin = 0; begin < stop; begin += step_) {
        dots_.multiply(queries, count, targets_[term], rows_, begin, std::min(begin + step_, stop),
                       query_scale, scale_[term], sums, stride,
                       term == 0 && begin == 0 ? ahead : NearestAhead{});
      }
    }
  }

 private:
  static constexpr int64_t kLeastStep = 2 * kNearestVector;

  // Features, in whole vectors, over which a lane's sums of products stay below 2^31.
  static int64_t step(int64_t product) {
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    const int64_t fit = product == 0 ? kNearestChunk : kMost / product * kNearestLanes;
    return std::min(fit / kNearestVector * kNearestVector, kNearestChunk);
  }

  NearestDotKernels dots_;
  NearestMemory<int16_t> halves_;
  NearestMemory<double> half_scale_;
  int64_t rows_ = 0, step_ = 0;
  int terms_ = 0;
  const int16_t* targets_[2] = {};
  const double* scale_[2] = {};
};

// Target rows, filled up to whole tiles.
inline int64_t nearest_whole_tiles(int64_t rows) {
  return (rows + kNearestTileTargets - 1) / kNearestTileTargets * kNearestTileTargets;
}

}  // namespace fastgan::cpu
