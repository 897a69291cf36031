// What a search knows of its queries and targets while it runs.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/nearest.h"
#include "cpu/nearest/kernels.h"

namespace fastgan::cpu {

// Features whose squared differences are summed as one number. The sums of a row's segments are
// added in order, so work can be split over them without a trace in the result. Sums of squares of
// 17-bit integers over a segment are exact in float64.
constexpr int64_t kNearestSegment = int64_t{1} << 16;

// Number of the calling thread in its team.
inline int64_t nearest_thread() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// Squared distances as int64, which sorts like the number: integers are kept as they are, a
// non-negative float64 sorts like its bits, and NaN behind infinity.
inline int64_t nearest_key(bool exact, double squared) {
  return exact ? static_cast<int64_t>(squared) : std::bit_cast<int64_t>(squared);
}

inline double nearest_squared(bool exact, int64_t key) {
  return exact ? static_cast<double>(key) : std::bit_cast<double>(key);
}

// Sum of the segments of one pair, [segments] with a stride.
inline int64_t nearest_total(bool exact, const double* parts, int64_t segments, int64_t stride) {
  if (exact) {
    int64_t total = 0;
    for (int64_t s = 0; s < segments; ++s) total += static_cast<int64_t>(parts[s * stride]);
    return total;
  } else {
    double total = 0;
    for (int64_t s = 0; s < segments; ++s) total += parts[s * stride];
    return nearest_key(exact, total);
  }
}

// The k smallest (key, index) offered so far. Never allocates after its construction.
class NearestHeap {
 public:
  using Entry = std::pair<int64_t, int64_t>;

  explicit NearestHeap(int64_t k) : k_(static_cast<size_t>(k)) { entries_.reserve(k_); }

  void clear() { entries_.clear(); }

  void offer(int64_t key, int64_t index) {
    const Entry entry{key, index};
    if (entries_.size() < k_) {
      entries_.push_back(entry);
      std::push_heap(entries_.begin(), entries_.end());
    } else if (entry < entries_.front()) {
      std::pop_heap(entries_.begin(), entries_.end());
      entries_.back() = entry;
      std::push_heap(entries_.begin(), entries_.end());
    }
  }

  // A key above this cannot enter.
  int64_t worst() const {
    return entries_.size() < k_ ? std::numeric_limits<int64_t>::max() : entries_.front().first;
  }

  // Nearest first; the heap is no heap afterwards.
  const std::vector<Entry>& sorted() {
    std::sort(entries_.begin(), entries_.end());
    return entries_;
  }

 private:
  size_t k_;
  std::vector<Entry> entries_;
};

// Targets that may be among the k nearest of one query, by bounds of their distances. Never
// allocates after its construction.
class NearestCandidates {
 public:
  struct Entry {
    double lower;
    int64_t index;
  };

  // Most candidates kept for one query; where the bounds cannot thin out more, they do not pay.
  static int64_t capacity(int64_t k) { return 4 * k + 128; }

  explicit NearestCandidates(int64_t k) : k_(static_cast<size_t>(k)) {
    entries_.reserve(static_cast<size_t>(capacity(k)));
    uppers_.reserve(k_);
  }

  // Distance beyond which a target cannot be among the k nearest.
  double reach() const {
    return uppers_.size() < k_ ? std::numeric_limits<double>::infinity() : uppers_.front();
  }

  void offer(NearestBounds bounds, int64_t index) {
    if (overflowed_ || bounds.lower > reach()) return;
    if (uppers_.size() < k_) {
      uppers_.push_back(bounds.upper == bounds.upper ? bounds.upper
                                                     : std::numeric_limits<double>::infinity());
      std::push_heap(uppers_.begin(), uppers_.end());
    } else if (bounds.upper < uppers_.front()) {
      std::pop_heap(uppers_.begin(), uppers_.end());
      uppers_.back() = bounds.upper;
      std::push_heap(uppers_.begin(), uppers_.end());
    }
    if (entries_.size() == entries_.capacity()) {
      prune();
      overflowed_ = 4 * entries_.size() > 3 * entries_.capacity();
    }
    entries_.push_back({bounds.lower, index});
  }

  void prune() {
    std::erase_if(entries_, [far = reach()](const Entry& e) { return e.lower > far; });
  }

  // Too many for the bounds to be of use: all targets have to be looked at.
  bool overflowed() const { return overflowed_; }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  size_t k_;
  bool overflowed_ = false;
  std::vector<Entry> entries_;
  std::vector<double> uppers_;  // the k smallest, a heap
};

// How many of `count` numbers follow each other without a gap, from the first on.
inline int64_t nearest_run(const int64_t* numbers, int64_t count) {
  int64_t n = 1;
  while (n < count && numbers[n] == numbers[0] + n) ++n;
  return n;
}

// One call.
struct NearestProblem {
  const NearestParams& p;
  NearestKernels kernels = nearest_kernels(p.dtype);
  int64_t segments = (p.F + kNearestSegment - 1) / kNearestSegment;
  bool exact = kernels.exact;

  explicit NearestProblem(const NearestParams& params) : p(params) {}

  // Feature f of a row.
  const void* query(int64_t q, int64_t f = 0) const {
    return static_cast<const char*>(p.query) + (q * p.F + f) * kernels.element;
  }
  const void* target(int64_t j, int64_t f = 0) const {
    return static_cast<const char*>(p.target) + (j * p.F + f) * kernels.element;
  }

  bool allowed(int64_t q, int64_t j) const {
    return !p.bad_target[j] && !(p.query_group && p.query_group[q] == p.target_group[j]);
  }

  void write(int64_t q, NearestHeap& heap) const {
    const auto& entries = heap.sorted();
    for (int64_t i = 0; i < p.k; ++i) {
      const bool found = i < static_cast<int64_t>(entries.size());
      p.squared[q * p.k + i] = found ? nearest_squared(exact, entries[static_cast<size_t>(i)].first)
                                     : std::numeric_limits<double>::quiet_NaN();
      p.index[q * p.k + i] = found ? entries[static_cast<size_t>(i)].second : -1;
    }
  }
};

// The searches. Each writes squared and index of the queries it is given, by number, and
// bad_target of the targets it finds to be bad.
void nearest_direct(const NearestProblem& problem, const std::vector<int64_t>& queries);
// Few queries or long rows: work is split over features too.
void nearest_dots(const NearestProblem& problem, const std::vector<int64_t>& queries);
// Many queries of short rows: targets are rounded once.
void nearest_wide(const NearestProblem& problem, const std::vector<int64_t>& queries);
constexpr int64_t kNearestWideFeatures = 2048;

}  // namespace fastgan::cpu
