// Many queries of short rows: panels of targets are rounded once and stay for all queries; every
// thread takes blocks of queries against all panels.
#include <algorithm>
#include <cstdint>

#include "cpu/nearest/select.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kQueries = 120;                  // of a task: 120 KB a chunk when rounded
constexpr int64_t kRounded = int64_t{1} << 25;     // int16 of rounded targets: 64 MiB
constexpr int64_t kCandidates = int64_t{1} << 18;  // candidates of all queries: 4 MiB

class Search {
 public:
  explicit Search(const NearestProblem& problem, int64_t queries)
      : problem_(problem), center_(problem), dots_(nearest_dot_kernels()) {
    const NearestParams& p = problem.p;
    chunks_ = (p.F + kNearestChunk - 1) / kNearestChunk;
    panel_size_ = chunks_ * kPanel * kNearestChunk;
    most_panels_ = std::clamp<int64_t>(kRounded / panel_size_, 1, (p.M + kPanel - 1) / kPanel);
    const int64_t fit = kCandidates / NearestCandidates::capacity(p.k);
    most_queries_ = std::min(std::max(fit / kQueries, int64_t{1}) * kQueries, queries);
    rounded_ = NearestMemory<int16_t>(most_panels_ * panel_size_);
    scale_.resize(static_cast<size_t>(most_panels_ * chunks_ * kPanel));
    squares_.resize(static_cast<size_t>(most_panels_ * kPanel));
    residuals_.resize(squares_.size());
    most_.resize(static_cast<size_t>(most_panels_));
    largest_.resize(static_cast<size_t>(most_panels_ * chunks_));
    for (int t = 0; t < std::max(p.threads, 1); ++t) threads_.emplace_back(*this);
  }

  int64_t most_queries() const { return most_queries_; }

  void search(const int64_t* queries, int64_t count) {
    const NearestParams& p = problem_.p;
    NearestSelect select(problem_, count);
    for (int64_t begin = 0; begin < p.M; begin += most_panels_ * kPanel) {
      const int64_t targets = std::min(most_panels_ * kPanel, p.M - begin);
      const int64_t panels = (targets + kPanel - 1) / kPanel;
#pragma omp parallel num_threads(p.threads) if (p.threads > 1)
      {
        Thread& thread = threads_[static_cast<size_t>(nearest_thread())];
        // the rounded targets of one block serve all calls
        if (rounded_from_ != begin) {
#pragma omp for schedule(dynamic)
          for (int64_t i = 0; i < panels; ++i) round_targets(begin, targets, i);
        }
#pragma omp for schedule(dynamic)
        for (int64_t q = 0; q < count; q += kQueries) {
          const int64_t rows = std::min(kQueries, count - q);
          round_queries(thread, queries + q, rows);
          for (int64_t i = 0; i < panels; ++i) {
            multiply(thread, rows, i, panels);
            offer(thread, select, q, queries + q, rows, begin, targets, i);
          }
        }
      }
      rounded_from_ = begin;
    }
    nearest_finish(problem_, select, queries, count);
  }

 private:
  static constexpr int64_t kPanel = kNearestPanel;

  struct Thread {
    explicit Thread(const Search& s)
        : products(s.dots_),
          queries(s.chunks_ * kQueries * kNearestChunk),
          scale(s.chunks_ * kQueries),
          sums(kQueries * kPanel),
          rows(static_cast<size_t>(kQueries)),
          largest(static_cast<size_t>(s.chunks_)) {}
    NearestProducts products;
    NearestMemory<int16_t> queries;  // [chunks, kQueries, kNearestChunk]
    NearestMemory<double> scale;     // [chunks, kQueries]
    NearestMemory<double> sums;      // [kQueries, kPanel]
    std::vector<NearestRow> rows;
    std::vector<int64_t> largest;  // [chunks]
  };

  // Rounds a chunk of rows that follow each other.
  void round(const void* from, int64_t rows, int64_t chunk, int16_t* to,
             NearestChunk* chunks) const {
    const int64_t f = chunk * kNearestChunk;
    problem_.kernels.quantise(from, rows, problem_.p.F, center_.at(f), features(chunk), to, chunks,
                              {});
  }
  int64_t features(int64_t chunk) const {
    return std::min(kNearestChunk, problem_.p.F - chunk * kNearestChunk);
  }

  void round_targets(int64_t begin, int64_t targets, int64_t panel) {
    const int64_t first = panel * kPanel, rows = std::min(kPanel, targets - first);
    NearestRowSums sums[kPanel];
    bool bad[kPanel] = {};
    for (int64_t c = 0; c < chunks_; ++c) {
      double* scale = scale_.data() + (panel * chunks_ + c) * kPanel;
      int64_t& largest = largest_[static_cast<size_t>(panel * chunks_ + c)];
      int16_t* to = rounded(panel, c);
      largest = 0;
      NearestChunk chunks[kPanel];
      round(problem_.target(begin + first, c * kNearestChunk), rows, c, to, chunks);
      for (int64_t i = 0; i < rows; ++i) {
        scale[i] = chunks[i].scale;
        largest = std::max(largest, chunks[i].largest);
        sums[i].add(chunks[i]);
        bad[i] |= !chunks[i].finite;
      }
      std::fill(scale + rows, scale + kPanel, 0.0);
      std::fill(to + rows * kNearestChunk, to + kPanel * kNearestChunk, int16_t{0});
    }
    NearestRow most;
    for (int64_t i = 0; i < rows; ++i) {
      const NearestRow row = sums[i].row();
      squares_[static_cast<size_t>(first + i)] = row.squares;
      residuals_[static_cast<size_t>(first + i)] = row.residual;
      most = {std::max(most.squares, row.squares), std::max(most.residual, row.residual)};
      problem_.p.bad_target[begin + first + i] = bad[i];
    }
    most_[static_cast<size_t>(panel)] = most;
  }

  void round_queries(Thread& thread, const int64_t* queries, int64_t rows) {
    NearestRowSums sums[kQueries];
    for (int64_t c = 0; c < chunks_; ++c) {
      int64_t& largest = thread.largest[static_cast<size_t>(c)];
      largest = 0;
      for (int64_t q = 0; q < rows; ++q) {
        const int64_t at = c * kQueries + q;
        NearestChunk chunk;
        round(problem_.query(queries[q], c * kNearestChunk), 1, c,
              thread.queries.get() + at * kNearestChunk, &chunk);
        thread.scale.get()[at] = chunk.scale;
        largest = std::max(largest, chunk.largest);
        sums[q].add(chunk);
      }
    }
    for (int64_t q = 0; q < rows; ++q) thread.rows[static_cast<size_t>(q)] = sums[q].row();
  }

  // thread.sums = dots of the rounded queries with one panel of `panels`
  void multiply(Thread& thread, int64_t rows, int64_t panel, int64_t panels) {
    std::fill_n(thread.sums.get(), rows * kPanel, 0.0);
    for (int64_t c = 0; c < chunks_; ++c) {
      const size_t at = static_cast<size_t>(panel * chunks_ + c);
      thread.products.prepare(rounded(panel, c), scale_.data() + at * kPanel, kPanel,
                              thread.largest[static_cast<size_t>(c)], largest_[at]);
      thread.products.multiply(thread.queries.get() + c * kQueries * kNearestChunk,
                               thread.scale.get() + c * kQueries, rows, features(c),
                               thread.sums.get(), kPanel, following(panel, c, panels));
    }
  }

  void offer(Thread& thread, NearestSelect& select, int64_t slot, const int64_t* queries,
             int64_t rows, int64_t begin, int64_t targets, int64_t panel) {
    const int64_t first = panel * kPanel, n = std::min(kPanel, targets - first);
    for (int64_t q = 0; q < rows; ++q) {
      select.offer(slot + q, queries[q], thread.rows[static_cast<size_t>(q)], begin + first, n,
                   thread.sums.get() + q * kPanel, squares_.data() + first,
                   residuals_.data() + first, most_[static_cast<size_t>(panel)]);
    }
  }

  // The rounded chunk that is multiplied next; it lies behind this one.
  NearestAhead following(int64_t panel, int64_t chunk, int64_t panels) const {
    if (panel + 1 == panels && chunk + 1 == chunks_) return {};
    constexpr int64_t kBytes = kPanel * kNearestChunk * 2;
    return {reinterpret_cast<const char*>(rounded(panel, chunk)) + kBytes, 1, 0,
            kBytes / kNearestLine};
  }

  int16_t* rounded(int64_t panel, int64_t chunk) const {
    return rounded_.get() + (panel * chunks_ + chunk) * kPanel * kNearestChunk;
  }

  const NearestProblem& problem_;
  NearestCenter center_;
  NearestDotKernels dots_;
  int64_t chunks_, panel_size_, most_panels_, most_queries_;
  int64_t rounded_from_ = -1;
  NearestMemory<int16_t> rounded_{0};        // [most_panels, chunks, kPanel, kNearestChunk]
  std::vector<double> scale_;                // [most_panels, chunks, kPanel]
  std::vector<double> squares_, residuals_;  // [most_panels, kPanel]
  std::vector<NearestRow> most_;             // [most_panels]
  std::vector<int64_t> largest_;             // [most_panels, chunks]
  std::vector<Thread> threads_;
};

}  // namespace

void nearest_wide(const NearestProblem& problem, const std::vector<int64_t>& queries) {
  if (queries.empty()) return;
  const int64_t n = static_cast<int64_t>(queries.size());
  Search search(problem, n);
  for (int64_t q = 0; q < n; q += search.most_queries()) {
    search.search(queries.data() + q, std::min(search.most_queries(), n - q));
  }
}

}  // namespace fastgan::cpu
