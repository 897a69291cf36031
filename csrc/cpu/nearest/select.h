// From dot products to neighbours: exact keys of integers, bounded candidates of floating rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/nearest/panels.h"

namespace fastgan::cpu {

// The neighbours of a block of queries, found so far. Calls for different queries may run at the
// same time.
class NearestSelect {
 public:
  NearestSelect(const NearestProblem& problem, int64_t queries)
      : problem_(problem), dots_(nearest_dot_kernels()) {
    chunks_ = (problem.p.F + kNearestChunk - 1) / kNearestChunk;
    for (int64_t q = 0; q < queries; ++q) {
      if (problem.exact) {
        heaps_.emplace_back(problem.p.k);
      } else {
        candidates_.emplace_back(problem.p.k);
      }
    }
  }

  // Targets [first, first + n) for query `slot`, which is number q, n <= kNearestPanel: dots,
  // squares and residuals [kNearestPanel]; `most` has at least their squares and residuals.
  void offer(int64_t slot, int64_t q, NearestRow x, int64_t first, int64_t n, const double* dots,
             const double* squares, const double* residuals, NearestRow most) {
    const size_t at = static_cast<size_t>(slot);
    if (problem_.exact) {
      NearestHeap& heap = heaps_[at];
      const int64_t square = static_cast<int64_t>(x.squares), worst = heap.worst();
      // exact, or rounded the same way on both sides of the comparison
      const double limit = worst == std::numeric_limits<int64_t>::max()
                               ? std::numeric_limits<double>::infinity()
                               : static_cast<double>(worst - square);
      for (uint64_t bits = dots_.within(dots, squares, n, limit); bits; bits &= bits - 1) {
        const int64_t i = __builtin_ctzll(bits);
        const int64_t key =
            square + static_cast<int64_t>(squares[i]) - 2 * static_cast<int64_t>(dots[i]);
        if (key <= heap.worst() && problem_.allowed(q, first + i)) heap.offer(key, first + i);
      }
    } else {
      NearestCandidates& found = candidates_[at];
      const double threshold = nearest_threshold(x, most, found.reach(), chunks_);
      uint64_t bits = dots_.within(dots, squares, n, threshold - x.squares);
      for (; bits; bits &= bits - 1) {
        const int64_t i = __builtin_ctzll(bits);
        if (!problem_.allowed(q, first + i)) continue;
        const NearestRow y{squares[i], residuals[i]};
        found.offer(nearest_bounds(x, y, dots[i], chunks_), first + i);
      }
    }
  }

  // Writes the neighbours of the query in `slot`, number q. False: all targets have to be looked
  // at. x [kNearestChunk] and sums [2, capacity of the candidates] are scratch.
  bool finish(int64_t slot, int64_t q, double* x, double* sums, NearestHeap& heap) {
    const size_t at = static_cast<size_t>(slot);
    if (problem_.exact) {
      problem_.write(q, heaps_[at]);
      return true;
    } else {
      NearestCandidates& found = candidates_[at];
      if (found.overflowed()) return false;
      found.prune();
      const int64_t n = static_cast<int64_t>(found.entries().size());
      const NearestParams& p = problem_.p;
      double* total = sums;
      double* part = sums + n;
      std::fill_n(total, n, 0.0);
      // the additions of nearest_direct, in its order
      for (int64_t start = 0; start < p.F; start += kNearestSegment) {
        std::fill_n(part, n, 0.0);
        const int64_t stop = std::min(start + kNearestSegment, p.F);
        for (int64_t f = start; f < stop; f += kNearestChunk) {
          const int64_t width = std::min(kNearestChunk, stop - f);
          problem_.kernels.to_double(problem_.query(q, f), width, x);
          for (int64_t i = 0; i < n; ++i) {
            const void* y = problem_.target(found.entries()[static_cast<size_t>(i)].index, f);
            problem_.kernels.direct(x, 1, y, width, part + i, 1);
          }
        }
        for (int64_t i = 0; i < n; ++i) total[i] += part[i];
      }
      heap.clear();
      for (int64_t i = 0; i < n; ++i) {
        heap.offer(nearest_key(problem_.exact, total[i]),
                   found.entries()[static_cast<size_t>(i)].index);
      }
      problem_.write(q, heap);
      return true;
    }
  }

 private:
  const NearestProblem& problem_;
  NearestDotKernels dots_;
  int64_t chunks_;
  std::vector<NearestHeap> heaps_;
  std::vector<NearestCandidates> candidates_;
};

// Finishes queries [count] by number in parallel; those that need all targets are searched anew.
inline void nearest_finish(const NearestProblem& problem, NearestSelect& select,
                           const int64_t* queries, int64_t count) {
  const NearestParams& p = problem.p;
  const int64_t threads = std::max(p.threads, 1), capacity = NearestCandidates::capacity(p.k);
  std::vector<NearestHeap> heaps;
  for (int64_t t = 0; t < threads; ++t) heaps.emplace_back(p.k);
  const int64_t scratch = kNearestChunk + 2 * capacity;
  const NearestMemory<double> memory(threads * scratch);
  std::vector<uint8_t> again(static_cast<size_t>(count));
#pragma omp parallel for num_threads(p.threads) if (p.threads > 1) schedule(dynamic)
  for (int64_t q = 0; q < count; ++q) {
    const int64_t thread = nearest_thread();
    double* x = memory.get() + thread * scratch;
    again[static_cast<size_t>(q)] =
        !select.finish(q, queries[q], x, x + kNearestChunk, heaps[static_cast<size_t>(thread)]);
  }
  std::vector<int64_t> rest;
  for (int64_t q = 0; q < count; ++q) {
    if (again[static_cast<size_t>(q)]) rest.push_back(queries[q]);
  }
  nearest_direct(problem, rest);
}

}  // namespace fastgan::cpu
