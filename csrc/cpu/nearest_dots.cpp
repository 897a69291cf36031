// Few queries or long rows: blocks of queries against panels of targets, whose chunks are packed
// where they are used. Work is split over targets and over features, so that a few large volumes
// keep all threads busy.
#include <algorithm>
#include <cstdint>

#include "cpu/nearest_select.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kQueries = 128;            // of a block; their packed chunks take 128 KB
constexpr int64_t kPanels = 8;               // of a task: packed queries are used for all
constexpr int64_t kSums = int64_t{1} << 22;  // of a block: 32 MiB

class Search {
 public:
  Search(const NearestProblem& problem, int64_t queries)
      : problem_(problem), center_(problem), dots_(nearest_dot_kernels()) {
    const NearestParams& p = problem.p;
    most_queries_ = std::min(queries, kQueries);
    padded_ = (most_queries_ + kNearestTileRows - 1) / kNearestTileRows * kNearestTileRows;
    panel_ = kNearestTileVectors * dots_.lanes;
    group_ = std::min(kPanels, (p.M + panel_ - 1) / panel_) * panel_;
    const int64_t fit = kSums / (problem.segments * padded_ * group_);
    most_groups_ = std::clamp<int64_t>(fit, 1, (p.M + group_ - 1) / group_);
    sums_.resize(static_cast<size_t>(problem.segments * most_groups_ * padded_ * group_));
    queries_.resize(static_cast<size_t>(problem.segments * padded_));
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
        : packer(s.problem_, s.center_),
          queries(s.padded_ * kNearestChunk),
          query_scale(s.padded_),
          targets(s.panel_ * kNearestChunk),
          target_scale(s.panel_) {}
    NearestPacker packer;
    NearestMemory<int16_t> queries;
    NearestMemory<double> query_scale;
    NearestMemory<int16_t> targets;
    NearestMemory<double> target_scale;
  };

  // [padded, panel] sums of one panel of a group in a segment, as tiles
  double* tiles(int64_t segment, int64_t group, int64_t panel) {
    const int64_t at = (segment * most_groups_ + group) * group_ + panel * panel_;
    return sums_.data() + at * padded_;
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
    std::fill_n(tiles(segment, group, 0), padded_ * group_, 0.0);
    for (int64_t f = start; f < stop; f += kNearestChunk) {
      const int64_t n = std::min(kNearestChunk, stop - f);
      // the same for every group: the first one keeps the sums
      const bool keep = group == 0;
      const int64_t most = pack_queries(thread, queries, count, f, n, keep ? segment : -1);
      for (int64_t j = first; j < last; j += panel_) {
        const int64_t rows = std::min(panel_, last - j);
        const int64_t vectors = (rows + dots_.lanes - 1) / dots_.lanes;
        int64_t largest = 0;
        for (int64_t i = 0; i < vectors * dots_.lanes; ++i) {
          thread.target_scale.get()[i] = 0;
          if (i >= rows) {
            thread.packer.zero(i);
            continue;
          }
          const NearestChunk chunk =
              thread.packer.round(problem_.target(begin + j + i, f), f, n, i);
          thread.target_scale.get()[i] = chunk.scale;
          largest = std::max(largest, chunk.largest);
          own[j + i].add(chunk);
          bad[j + i] |= !chunk.finite;
        }
        thread.packer.pack_targets(vectors, thread.targets.get());
        thread.packer.prepare(thread.targets.get(), thread.target_scale.get(), vectors, most,
                              largest);
        double* to = tiles(segment, group, (j - first) / panel_);
        for (int64_t q = 0; q < count; q += kNearestTileRows) {
          thread.packer.multiply(thread.queries.get() + q * kNearestChunk,
                                 thread.query_scale.get() + q, n, to + q * vectors * dots_.lanes);
        }
      }
    }
  }

  // Largest value of the packed queries. segment >= 0: adds to their sums there.
  int64_t pack_queries(Thread& thread, const int64_t* queries, int64_t count, int64_t f, int64_t n,
                       int64_t segment) {
    int64_t largest = 0;
    for (int64_t q = 0; q < count; q += kNearestTileRows) {
      for (int64_t i = 0; i < kNearestTileRows; ++i) {
        thread.query_scale.get()[q + i] = 0;
        if (q + i >= count) {
          thread.packer.zero(i);
          continue;
        }
        const NearestChunk chunk = thread.packer.round(problem_.query(queries[q + i], f), f, n, i);
        thread.query_scale.get()[q + i] = chunk.scale;
        largest = std::max(largest, chunk.largest);
        if (segment < 0) continue;
        NearestRowSums& sums = queries_[static_cast<size_t>(segment * padded_ + q + i)];
        if (f % kNearestSegment == 0) sums = {};
        sums.add(chunk);
      }
      thread.packer.pack_queries(thread.queries.get() + q * kNearestChunk);
    }
    return largest;
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
      NearestRowSums sums;
      for (int64_t s = 0; s < problem_.segments; ++s) {
        sums.add(queries_[static_cast<size_t>(s * padded_ + q)]);
      }
      for (int64_t j = 0; j < targets; j += panel_) {
        const int64_t group = j / group_, panel = j % group_ / panel_;
        const int64_t rows = std::min(panel_, targets - j);
        const int64_t width = (rows + dots_.lanes - 1) / dots_.lanes * dots_.lanes;
        double dots[kNearestMaxPanel] = {};
        for (int64_t s = 0; s < problem_.segments; ++s) {
          const double* from = tiles(s, group, panel) + q * width;
          for (int64_t i = 0; i < rows; ++i) dots[i] += from[i];
        }
        const double* y = squares.data() + j;
        const double* e = residuals.data() + j;
        const NearestRow most{*std::max_element(y, y + rows), *std::max_element(e, e + rows)};
        select.offer(q, queries[q], sums.row(), begin + j, rows, dots, y, e, most);
      }
    }
  }

  const NearestProblem& problem_;
  NearestCenter center_;
  NearestDotKernels dots_;
  int64_t most_queries_, padded_, panel_, group_, most_groups_;
  std::vector<double> sums_;
  std::vector<NearestRowSums> queries_;  // [segments, padded]
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
