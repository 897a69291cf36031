// All pairs by direct differences in float64: bound by memory while queries are few.
#include <algorithm>
#include <cstdint>
#include <memory>

#include "cpu/nearest/state.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kQueries = 64;                 // of a block
constexpr int64_t kSums = int64_t{1} << 21;      // of a block: 16 MiB
constexpr int64_t kTask = int64_t{1} << 16;      // target values, so that many tasks share a block
constexpr int64_t kMinRows = 8, kMaxRows = 128;  // of a task: queries are converted once for all

class Block {
 public:
  Block(const NearestProblem& problem, int64_t queries) : problem_(problem) {
    const NearestParams& p = problem.p;
    most_queries_ = std::min(queries, kQueries);
    task_rows_ = std::clamp(kTask / std::min(p.F, kNearestSegment), kMinRows, kMaxRows);
    const int64_t fit = kSums / (problem.segments * most_queries_);
    most_targets_ = std::clamp<int64_t>(fit, 1, p.M);
    sums_.resize(static_cast<size_t>(problem.segments * most_queries_ * most_targets_));
    converted_.resize(static_cast<size_t>(std::max(p.threads, 1) * most_queries_ * kNearestChunk));
    heaps_.assign(static_cast<size_t>(most_queries_), NearestHeap(p.k));
    for (NearestHeap& heap : heaps_) heap = NearestHeap(p.k);  // a copy does not keep its capacity
  }

  int64_t most_queries() const { return most_queries_; }

  void search(const int64_t* queries, int64_t count) {
    const NearestParams& p = problem_.p;
    for (int64_t q = 0; q < count; ++q) heaps_[static_cast<size_t>(q)].clear();
    for (int64_t begin = 0; begin < p.M; begin += most_targets_) {
      const int64_t rows = std::min(most_targets_, p.M - begin);
      sum(queries, count, begin, rows);
      select(queries, count, begin, rows);
    }
    for (int64_t q = 0; q < count; ++q) {
      problem_.write(queries[q], heaps_[static_cast<size_t>(q)]);
    }
  }

 private:
  // sums_ [segments, count, rows]
  void sum(const int64_t* queries, int64_t count, int64_t begin, int64_t rows) {
    const NearestParams& p = problem_.p;
    std::fill_n(sums_.data(), problem_.segments * count * rows, 0.0);
    const int64_t strips = (rows + task_rows_ - 1) / task_rows_;
#pragma omp parallel num_threads(p.threads) if (p.threads > 1)
    {
      double* x = converted_.data() + nearest_thread() * most_queries_ * kNearestChunk;
#pragma omp for schedule(dynamic)
      for (int64_t task = 0; task < strips * problem_.segments; ++task) {
        const int64_t first = task / problem_.segments * task_rows_;
        const int64_t last = std::min(first + task_rows_, rows);
        const int64_t segment = task % problem_.segments;
        const int64_t start = segment * kNearestSegment;
        const int64_t stop = std::min(start + kNearestSegment, p.F);
        for (int64_t f = start; f < stop; f += kNearestChunk) {
          const int64_t n = std::min(kNearestChunk, stop - f);
          for (int64_t q = 0; q < count; ++q) {
            problem_.kernels.to_double(problem_.query(queries[q], f), n, x + q * kNearestChunk);
          }
          for (int64_t j = first; j < last; ++j) {
            problem_.kernels.direct(x, count, problem_.target(begin + j, f), n,
                                    sums_.data() + segment * count * rows + j, rows);
          }
        }
      }
    }
  }

  void select(const int64_t* queries, int64_t count, int64_t begin, int64_t rows) {
    const NearestParams& p = problem_.p;
    const int64_t stride = count * rows;
    const auto key = [&](int64_t q, int64_t j) {
      return nearest_total(problem_.exact, sums_.data() + q * rows + j, problem_.segments, stride);
    };
    // A bad target poisons its distance to every query; the first query tells.
    for (int64_t j = 0; j < rows && !problem_.exact; ++j) {
      if (nearest_squared(problem_.exact, key(0, j)) <= std::numeric_limits<double>::max())
        continue;
      p.bad_target[begin + j] = !problem_.kernels.finite(problem_.target(begin + j), p.F);
    }
#pragma omp parallel for num_threads(p.threads) if (p.threads > 1) schedule(dynamic)
    for (int64_t q = 0; q < count; ++q) {
      NearestHeap& heap = heaps_[static_cast<size_t>(q)];
      for (int64_t j = 0; j < rows; ++j) {
        const int64_t found = key(q, j);
        if (found <= heap.worst() && problem_.allowed(queries[q], begin + j)) {
          heap.offer(found, begin + j);
        }
      }
    }
  }

  const NearestProblem& problem_;
  int64_t most_queries_, most_targets_, task_rows_;
  std::vector<double> sums_, converted_;
  std::vector<NearestHeap> heaps_;
};

}  // namespace

void nearest_direct(const NearestProblem& problem, const std::vector<int64_t>& queries) {
  if (queries.empty()) return;
  const int64_t n = static_cast<int64_t>(queries.size());
  Block block(problem, n);
  for (int64_t q = 0; q < n; q += block.most_queries()) {
    block.search(queries.data() + q, std::min(block.most_queries(), n - q));
  }
}

}  // namespace fastgan::cpu
