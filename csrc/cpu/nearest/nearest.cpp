#include "cpu/nearest/nearest.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/nearest/state.h"

namespace fastgan::cpu {
namespace {

// From how many queries on rounding floating targets pays: below, direct differences cost less.
constexpr int64_t kRoundedFrom = 24;
// Blocks of queries that every thread should have before work is split over them alone.
constexpr int64_t kWideQueries = 128;
// Sums of integers over more features could exceed 2^53.
constexpr int64_t kMostIntegers = int64_t{1} << 23;

}  // namespace

void nearest(const NearestParams& p) {
  const NearestProblem problem(p);
  std::vector<int64_t> queries;
  NearestHeap none(p.k);
  for (int64_t q = 0; q < p.N; ++q) {
    p.bad_query[q] = !problem.kernels.finite(problem.query(q), p.F);
    if (p.bad_query[q]) {
      problem.write(q, none);
    } else {
      queries.push_back(q);
    }
  }
  std::fill_n(p.bad_target, p.M, uint8_t{0});
  if (queries.empty()) {
    for (int64_t j = 0; j < p.M; ++j) {
      p.bad_target[j] = !problem.kernels.finite(problem.target(j), p.F);
    }
    return;
  }
  const int64_t n = static_cast<int64_t>(queries.size());
  using Path = NearestParams::Path;
  Path path = p.path;
  if (path == Path::kAuto) {
    const bool wide = n >= kWideQueries * p.threads && p.F <= kNearestWideFeatures;
    const bool few = !problem.exact && n < kRoundedFrom;
    path = few ? Path::kDirect : wide ? Path::kWide : Path::kDots;
  }
  if (problem.exact && p.F > kMostIntegers) path = Path::kDirect;
  if (path == Path::kDirect) {
    nearest_direct(problem, queries);
  } else if (path == Path::kWide) {
    nearest_wide(problem, queries);
  } else {
    nearest_dots(problem, queries);
  }
}

}  // namespace fastgan::cpu
