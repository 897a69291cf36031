// Few queries or long rows: blocks of queries against panels of targets, whose chunks are rounded
// where they are used. Work is split over targets and over features, so that a few large volumes
// keep all threads busy.
#include <algorithm>
#include <cstdint>

#include "cpu/nearest/select.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kQueries = 126;            // of a block; their rounded chunks take 126 KB
constexpr int64_t kPanel = 4;                // targets whose rounded chunks are used at once
constexpr int64_t kGroup = 48 * kPanel;      // of a task: rounded queries are used for all
constexpr int64_t kSums = int64_t{1} << 22;  // of a block: 32 MiB
// Chunks of a row that are read one after the other, as memory likes it, and how many rounded ones
// of all queries stay in the cache for that: 64 KB.
constexpr int64_t kVisit = 16, kKept = 64;
constexpr int64_t kQueryRows = 4;  // queries that are rounded together
// From how many queries on there are products enough to ask for what comes next between them; for
// fewer it is asked for while targets are rounded.
constexpr int64_t kBusy = 6;
static_assert(kNearestPanel % kPanel == 0 && kGroup % kNearestPanel == 0);

class Search {
 public:
  Search(const NearestProblem& problem, int64_t queries)
      : problem_(problem), center_(problem), dots_(nearest_dot_kernels()) {
    const NearestParams& p = problem.p;
    most_queries_ = std::min(queries, kQueries);
    visit_ = std::clamp<int64_t>(kKept / most_queries_, 1, kVisit);
    const int64_t panels = (p.M + kNearestPanel - 1) / kNearestPanel;
    group_ = std::min(kGroup, panels * kNearestPanel);
    const int64_t fit = kSums / (problem.segments * most_queries_ * group_);
    most_groups_ = std::clamp<int64_t>(fit, 1, (p.M + group_ - 1) / group_);
    sums_.resize(static_cast<size_t>(problem.segments * most_groups_ * most_queries_ * group_));
    queries_.resize(static_cast<size_t>(problem.segments * most_queries_));
    targets_.resize(static_cast<size_t>(problem.segments * most_groups_ * group_));
    bad_.resize(static_cast<size_t>(problem.segments * most_groups_ * group_));
    for (int t = 0; t < std::max(p.threads, 1); ++t) threads_.emplace_back(*this);
  }

  int64_t most_queries() const { return most_queries_; }

  void search(const int64_t* queries, int64_t count) {
    const NearestParams& p = problem_.p;
    NearestSelect select(problem_, count);
    for (int64_t begin = 0; begin < p.M; begin += most_groups_ * group_) {
      const int64_t targets = std::min(most_groups_ * group_, p.M - begin);
      const int64_t groups = (targets + group_ - 1) / group_;
#pragma omp parallel for num_threads(p.threads) if (p.threads > 1) schedule(dynamic)
      for (int64_t task = 0; task < groups * problem_.segments; ++task) {
        multiply(threads_[static_cast<size_t>(nearest_thread())], queries, count, begin, targets,
                 task / problem_.segments, task % problem_.segments);
      }
      offer(select, queries, count, begin, targets);
    }
    nearest_finish(problem_, select, queries, count);
  }

 private:
  struct Thread {
    explicit Thread(const Search& s)
        : products(s.dots_),
          queries(s.visit_ * s.most_queries_ * kNearestChunk),
          query_scale(s.visit_ * s.most_queries_),
          targets(kPanel * kNearestChunk),
          target_scale(kPanel) {}
    NearestProducts products;
    NearestMemory<int16_t> queries;      // [visit, most_queries, kNearestChunk]
    NearestMemory<double> query_scale;   // [visit, most_queries]
    NearestMemory<int16_t> targets;      // [kPanel, kNearestChunk]
    NearestMemory<double> target_scale;  // [kPanel]
    int64_t query_largest[kVisit];
  };

  // [most_queries, group] sums of a group in a segment
  double* sums(int64_t segment, int64_t group) {
    return sums_.data() + (segment * most_groups_ + group) * most_queries_ * group_;
  }

  void multiply(Thread& thread, const int64_t* queries, int64_t count, int64_t begin,
                int64_t targets, int64_t group, int64_t segment) {
    const int64_t start = segment * kNearestSegment;
    const int64_t stop = std::min(start + kNearestSegment, problem_.p.F);
    const int64_t first = group * group_, last = std::min(first + group_, targets);
    NearestRowSums* own = targets_.data() + segment * most_groups_ * group_;
    uint8_t* bad = bad_.data() + segment * most_groups_ * group_;
    std::fill(own + first, own + last, NearestRowSums{});
    std::fill(bad + first, bad + last, uint8_t{0});
    std::fill_n(sums(segment, group), most_queries_ * group_, 0.0);
    const int64_t span = visit_ * kNearestChunk;
    const bool busy = count >= kBusy;
    for (int64_t f = start; f < stop; f += span) {
      const int64_t end = std::min(f + span, stop);
      // the same for every group: the first one keeps the sums
      round_queries(thread, queries, count, f, end, group == 0 ? segment : -1);
      for (int64_t j = first; j < last; j += kPanel) {
        const int64_t rows = std::min(kPanel, last - j), whole = nearest_whole_tiles(rows);
        for (int64_t c = 0; c < visit_ && f + c * kNearestChunk < end; ++c) {
          const int64_t at = f + c * kNearestChunk, n = std::min(kNearestChunk, end - at);
          int16_t* panel = thread.targets.get();
          double* scale = thread.target_scale.get();
          const NearestAhead next = following(begin, first, last, j, at, f, end, stop);
          NearestChunk chunks[kPanel];
          problem_.kernels.quantise(problem_.target(begin + j, at), rows, problem_.p.F,
                                    center_.at(at), n, panel, chunks, busy ? NearestAhead{} : next);
          int64_t largest = 0;
          for (int64_t i = 0; i < rows; ++i) {
            scale[i] = chunks[i].scale;
            largest = std::max(largest, chunks[i].largest);
            own[j + i].add(chunks[i]);
            bad[j + i] |= !chunks[i].finite;
          }
          std::fill(scale + rows, scale + whole, 0.0);
          std::fill(panel + rows * kNearestChunk, panel + whole * kNearestChunk, int16_t{0});
          thread.products.prepare(panel, scale, whole, thread.query_largest[c], largest);
          thread.products.multiply(thread.queries.get() + c * most_queries_ * kNearestChunk,
                                   thread.query_scale.get() + c * most_queries_, count, n,
                                   sums(segment, group) + j - first, group_,
                                   busy ? next : NearestAhead{});
        }
      }
    }
  }

  // What follows the chunk at feature `at` of rows from j on, in a visit of features [f, end) of
  // targets [first, last) from row `begin` on: its next chunk, the next rows, the next visit.
  NearestAhead following(int64_t begin, int64_t first, int64_t last, int64_t j, int64_t at,
                         int64_t f, int64_t end, int64_t stop) const {
    const auto rows = [last](int64_t from) { return std::min(kPanel, last - from); };
    const int64_t next = at + kNearestChunk;
    if (next < end) return nearest_ahead(problem_, begin + j, rows(j), next, stop);
    j += kPanel;
    if (j < last) return nearest_ahead(problem_, begin + j, rows(j), f, stop);
    return nearest_ahead(problem_, begin + first, rows(first), end, stop);
  }

  // Features [f, end) of the queries. segment >= 0: adds to their sums there.
  void round_queries(Thread& thread, const int64_t* queries, int64_t count, int64_t f, int64_t end,
                     int64_t segment) {
    for (int64_t c = 0; c < visit_ && f + c * kNearestChunk < end; ++c) {
      const int64_t at = f + c * kNearestChunk, n = std::min(kNearestChunk, end - at);
      thread.query_largest[c] = 0;
      for (int64_t q = 0, rows = 0; q < count; q += rows) {
        rows = nearest_run(queries + q, std::min(count - q, kQueryRows));
        const int64_t slot = c * most_queries_ + q;
        NearestChunk chunks[kQueryRows];
        problem_.kernels.quantise(problem_.query(queries[q], at), rows, problem_.p.F,
                                  center_.at(at), n, thread.queries.get() + slot * kNearestChunk,
                                  chunks, {});
        for (int64_t i = 0; i < rows; ++i) {
          thread.query_scale.get()[slot + i] = chunks[i].scale;
          thread.query_largest[c] = std::max(thread.query_largest[c], chunks[i].largest);
          if (segment < 0) continue;
          NearestRowSums& sums = queries_[static_cast<size_t>(segment * most_queries_ + q + i)];
          if (at % kNearestSegment == 0) sums = {};
          sums.add(chunks[i]);
        }
      }
    }
  }

  void offer(NearestSelect& select, const int64_t* queries, int64_t count, int64_t begin,
             int64_t targets) {
    const NearestParams& p = problem_.p;
    const int64_t size = most_groups_ * group_;
    std::vector<double> squares(static_cast<size_t>(size)), residuals(static_cast<size_t>(size));
    for (int64_t j = 0; j < targets; ++j) {
      NearestRowSums sums;
      for (int64_t s = 0; s < problem_.segments; ++s) {
        sums.add(targets_[static_cast<size_t>(s * size + j)]);
        p.bad_target[begin + j] |= bad_[static_cast<size_t>(s * size + j)];
      }
      squares[static_cast<size_t>(j)] = sums.row().squares;
      residuals[static_cast<size_t>(j)] = sums.row().residual;
    }
#pragma omp parallel for num_threads(p.threads) if (p.threads > 1) schedule(dynamic)
    for (int64_t q = 0; q < count; ++q) {
      NearestRowSums own;
      for (int64_t s = 0; s < problem_.segments; ++s) {
        own.add(queries_[static_cast<size_t>(s * most_queries_ + q)]);
      }
      for (int64_t j = 0; j < targets; j += kNearestPanel) {
        const int64_t group = j / group_, rows = std::min(kNearestPanel, targets - j);
        double dots[kNearestPanel] = {};
        for (int64_t s = 0; s < problem_.segments; ++s) {
          const double* from = sums(s, group) + q * group_ + j % group_;
          for (int64_t i = 0; i < kNearestPanel; ++i) dots[i] += from[i];
        }
        const double* y = squares.data() + j;
        const double* e = residuals.data() + j;
        const NearestRow most{*std::max_element(y, y + rows), *std::max_element(e, e + rows)};
        select.offer(q, queries[q], own.row(), begin + j, rows, dots, y, e, most);
      }
    }
  }

  const NearestProblem& problem_;
  NearestCenter center_;
  NearestDotKernels dots_;
  int64_t most_queries_, visit_, group_, most_groups_;
  std::vector<double> sums_;
  std::vector<NearestRowSums> queries_;  // [segments, most_queries]
  std::vector<NearestRowSums> targets_;  // [segments, most_groups * group]
  std::vector<uint8_t> bad_;             // likewise
  std::vector<Thread> threads_;
};

}  // namespace

void nearest_dots(const NearestProblem& problem, const std::vector<int64_t>& queries) {
  if (queries.empty()) return;
  const int64_t n = static_cast<int64_t>(queries.size());
  Search search(problem, n);
  for (int64_t q = 0; q < n; q += search.most_queries()) {
    search.search(queries.data() + q, std::min(search.most_queries(), n - q));
  }
}

}  // namespace fastgan::cpu
