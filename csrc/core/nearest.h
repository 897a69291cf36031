// Exact nearest neighbours, Euclidean: parameters, and the bounds that certify a search.
//
// The k targets with the smallest (squared distance, index) are found for every query, so of
// equally near targets the first comes first. A squared distance is a function of its two rows
// alone: it does not depend on threads, batch sizes or on which of the paths found it. Integers are
// exact; floating rows are compared by direct differences in float64. A row that holds NaN or
// infinity is flagged, gets no neighbours and is none.
//
// A certified search replaces rows x by approximations x^ with |x - x^| <= e. By the triangle
// inequality the true distance lies within e_x + e_y of |x^ - y^|, whatever the data.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "core/macros.h"

namespace fastgan {

struct NearestParams {
  int64_t N, M, F, k;  // N, M, F >= 1; 1 <= k <= M
  Dtype dtype;         // of query and target
  const void* query;   // [N, F]
  const void* target;  // [M, F]
  // A query is not matched with a target of its own group; null: all are allowed.
  const int64_t* query_group;   // [N]
  const int64_t* target_group;  // [M]
  int threads;                  // upper bound
  // kAuto chooses by shape; the others are for tests and measurements.
  enum class Path : int { kAuto, kDirect, kDots, kWide } path;
  double* squared;      // [N, k] output; NaN where fewer than k targets are allowed
  int64_t* index;       // [N, k] output; -1 there
  uint8_t* bad_query;   // [N] output: holds NaN or infinity
  uint8_t* bad_target;  // [M] output
};

// Volumes [S, D, H, W] as coarse rows. For blocks B of n voxels, with means and standard
// deviations,
//   |x - y|^2 >= sum_B n [(mean_x - mean_y)^2 + (sd_x - sd_y)^2],
// so the rows (sqrt(n) mean_x, sqrt(n) sd_x)_B are never farther apart than the volumes. Blocks
// have sides of `coarsest`, half of it, ..., 2; those at an upper border may be smaller.
struct NearestPyramid {
  static constexpr int kMaxLevels = 5;

  int64_t S, D, H, W;
  int levels;
  int64_t side[kMaxLevels];  // coarsest first

  FASTGAN_HD static NearestPyramid of(int64_t S, int64_t D, int64_t H, int64_t W) {
    NearestPyramid out{S, D, H, W, 0, {}};
    const int64_t longest = D > H ? (D > W ? D : W) : (H > W ? H : W);
    for (int64_t p = 32; p >= 2; p /= 2) {
      if (2 * p <= longest || p == 2) out.side[out.levels++] = p;
    }
    return out;
  }
  FASTGAN_HD int64_t blocks(int level) const {
    const int64_t p = side[level];
    return S * ((D + p - 1) / p) * ((H + p - 1) / p) * ((W + p - 1) / p);
  }
  // Numbers of a level: a mean and a deviation for each block.
  FASTGAN_HD int64_t width(int level) const { return 2 * blocks(level); }
  FASTGAN_HD int64_t width() const {
    int64_t sum = 0;
    for (int level = 0; level < levels; ++level) sum += width(level);
    return sum;
  }
};

// What rounding to float32 and sums in float64 can move a coarse row by, as a share of |x|: 2^-24
// for each number, and sqrt(50 * 2^-53) < 2^-23.6 where a deviation cancels.
constexpr double kNearestPyramidError = 0x1p-22;
// Squares of larger rows would not fit float32; their coarse rows bound nothing.
constexpr double kNearestPyramidLargest = 1e18;

struct NearestPyramidParams {
  NearestParams search;  // path, threads and bad_query, bad_target (here inputs) included
  NearestPyramid pyramid;
  const float* query_coarse;   // [N, width], levels one after the other
  const double* query_error;   // [N]
  const float* target_coarse;  // [M, width]
  const double* target_error;  // [M]
  int64_t* read;               // [N] output: numbers read of coarse rows and of volumes
};

// An approximated row: its squared length, and how far the row itself may be.
struct NearestRow {
  double squares = 0;   // |x^|^2
  double residual = 0;  // >= |x - x^|
};

struct NearestBounds {
  double lower, upper;
};

// Rounding of |x^|^2 + |y^|^2 - 2 x^ y^, each summed over `chunks` chunks in float64 with every
// chunk's own sum exact: each sum is off by at most (chunks + 3) units of 2^-53 of the sum of the
// squares, and the three together by less than this.
FASTGAN_FORMULA double nearest_rounding(double squares, int64_t chunks) {
  return squares * (4.0 * static_cast<double>(chunks) + 32.0) * 0x1p-52;
}

// Bounds of |x - y| from dot = x^ y^. The factors cover the roundings of this function itself.
FASTGAN_FORMULA NearestBounds nearest_bounds(NearestRow x, NearestRow y, double dot,
                                             int64_t chunks) {
  const double squares = x.squares + y.squares;
  const double squared = squares - 2 * dot, rounding = nearest_rounding(squares, chunks);
  const double slack = (x.residual + y.residual) * (1 + 0x1p-50);
  const double low = squared > rounding ? std::sqrt(squared - rounding) * (1 - 0x1p-50) : 0;
  const double high = std::sqrt((squared > 0 ? squared : 0) + rounding) * (1 + 0x1p-50);
  return {low - slack, (high + slack) * (1 + 0x1p-50)};
}

// A value that squared - |x^|^2 - |y^|^2 = -2 x^ y^ exceeds by no more than |x^|^2 + |y^|^2 for any
// pair whose lower bound does not exceed `reach`: the test of a whole panel of targets, whose
// residuals and squares are at most those of `y`.
FASTGAN_FORMULA double nearest_threshold(NearestRow x, NearestRow y, double reach, int64_t chunks) {
  const double far = (reach + x.residual + y.residual) * (1 + 0x1p-48);
  return far * far * (1 + 0x1p-48) + 2 * nearest_rounding(x.squares + y.squares, chunks);
}

}  // namespace fastgan
