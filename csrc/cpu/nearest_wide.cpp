// Many queries of short rows: panels of targets are packed once and stay for all queries; every
// thread takes blocks of queries against all panels.
#include <algorithm>
#include <cstdint>

#include "cpu/nearest_select.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kQueries = 64;                   // of a task: 64 KB a chunk when packed
constexpr int64_t kPacked = int64_t{1} << 25;      // int16 of packed targets: 64 MiB
constexpr int64_t kCandidates = int64_t{1} << 21;  // candidates of all queries: 32 MiB

class Search {
 public:
  explicit Search(const NearestProblem& problem, int64_t queries)
      : problem_(problem), center_(problem), dots_(nearest_dot_kernels()) {
    const NearestParams& p = problem.p;
    chunks_ = (p.F + kNearestChunk - 1) / kNearestChunk;
    panel_ = kNearestTileVectors * dots_.lanes;
    panel_size_ = chunks_ * panel_ * kNearestChunk;
    most_panels_ = std::clamp<int64_t>(kPacked / panel_size_, 1, (p.M + panel_ - 1) / panel_);
    const int64_t fit = kCandidates / NearestCandidates::capacity(p.k);
    most_queries_ = std::min(std::max(fit / kQueries, int64_t{1}) * kQueries, queries);
    packed_ = NearestMemory<int16_t>(most_panels_ * panel_size_);
    scale_.resize(static_cast<size_t>(most_panels_ * chunks_ * panel_));
    squares_.resize(static_cast<size_t>(most_panels_ * panel_));
    residuals_.resize(squares_.size());
    most_.resize(static_cast<size_t>(most_panels_));
    largest_.resize(static_cast<size_t>(most_panels_ * chunks_));
    for (int t = 0; t < std::max(p.threads, 1); ++t) threads_.emplace_back(*this);
  }

  int64_t most_queries() const { return most_queries_; }

  void search(const int64_t* queries, int64_t count) {
    const NearestParams& p = problem_.p;
    NearestSelect select(problem_, count);
    for (int64_t begin = 0; begin < p.M; begin += most_panels_ * panel_) {
      const int64_t targets = std::min(most_panels_ * panel_, p.M - begin);
      const int64_t panels = (targets + panel_ - 1) / panel_;
#pragma omp parallel num_threads(p.threads) if (p.threads > 1)
      {
        Thread& thread = threads_[static_cast<size_t>(nearest_thread())];
        // the packed targets of one block serve all calls
        if (packed_from_ != begin) {
#pragma omp for schedule(dynamic)
          for (int64_t i = 0; i < panels; ++i) pack_targets(thread, begin, targets, i);
        }
#pragma omp for schedule(dynamic)
        for (int64_t q = 0; q < count; q += kQueries) {
          const int64_t rows = std::min(kQueries, count - q);
          pack_queries(thread, queries + q, rows);
          for (int64_t i = 0; i < panels; ++i) {
            multiply(thread, rows, i);
            offer(thread, select, q, queries + q, rows, begin, targets, i);
          }
        }
      }
      packed_from_ = begin;
    }
    nearest_finish(problem_, select, queries, count);
  }

 private:
  struct Thread {
    explicit Thread(const Search& s)
        : packer(s.problem_, s.center_),
          queries(s.chunks_ * kQueries * kNearestChunk),
          scale(s.chunks_ * kQueries),
          sums(kQueries * s.panel_),
          rows(static_cast<size_t>(kQueries)),
          largest(static_cast<size_t>(s.chunks_)) {}
    NearestPacker packer;
    NearestMemory<int16_t> queries;  // [chunks, kQueries / rows of a tile] panels
    NearestMemory<double> scale;     // [chunks, kQueries]
    NearestMemory<double> sums;      // [kQueries, panel]
    std::vector<NearestRow> rows;
    std::vector<int64_t> largest;  // [chunks]
  };

  int64_t features(int64_t chunk) const {
    return std::min(kNearestChunk, problem_.p.F - chunk * kNearestChunk);
  }

  void pack_targets(Thread& thread, int64_t begin, int64_t targets, int64_t panel) {
    const int64_t first = panel * panel_, rows = std::min(panel_, targets - first);
    NearestRowSums sums[kNearestMaxPanel];
    bool bad[kNearestMaxPanel] = {};
    for (int64_t c = 0; c < chunks_; ++c) {
      double* scale = scale_.data() + (panel * chunks_ + c) * panel_;
      int64_t& largest = largest_[static_cast<size_t>(panel * chunks_ + c)];
      largest = 0;
      for (int64_t i = 0; i < panel_; ++i) {
        scale[i] = 0;
        if (i >= rows) {
          thread.packer.zero(i);
          continue;
        }
        const int64_t f = c * kNearestChunk;
        const NearestChunk chunk =
            thread.packer.round(problem_.target(begin + first + i, f), f, features(c), i);
        scale[i] = chunk.scale;
        largest = std::max(largest, chunk.largest);
        sums[i].add(chunk);
        bad[i] |= !chunk.finite;
      }
      thread.packer.pack_targets(kNearestTileVectors, packed(panel, c));
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

  void pack_queries(Thread& thread, const int64_t* queries, int64_t rows) {
    NearestRowSums sums[kQueries];
    for (int64_t c = 0; c < chunks_; ++c) {
      int64_t& largest = thread.largest[static_cast<size_t>(c)];
      largest = 0;
      for (int64_t q = 0; q < rows; ++q) {
        const int64_t i = q % kNearestTileRows;
        double& scale = thread.scale.get()[c * kQueries + q];
        const int64_t f = c * kNearestChunk;
        const NearestChunk chunk =
            thread.packer.round(problem_.query(queries[q], f), f, features(c), i);
        scale = chunk.scale;
        largest = std::max(largest, chunk.largest);
        sums[q].add(chunk);
        if (i + 1 < kNearestTileRows && q + 1 < rows) continue;
        for (int64_t rest = i + 1; rest < kNearestTileRows; ++rest) {
          thread.packer.zero(rest);
          (&scale)[rest - i] = 0;
        }
        thread.packer.pack_queries(query_panel(thread, c, q - i));
      }
    }
    for (int64_t q = 0; q < rows; ++q) thread.rows[static_cast<size_t>(q)] = sums[q].row();
  }

  // thread.sums = dots of the packed queries with one panel
  void multiply(Thread& thread, int64_t rows, int64_t panel) {
    std::fill_n(thread.sums.get(), kQueries * panel_, 0.0);
    for (int64_t c = 0; c < chunks_; ++c) {
      const size_t at = static_cast<size_t>(panel * chunks_ + c);
      thread.packer.prepare(packed(panel, c), scale_.data() + at * static_cast<size_t>(panel_),
                            kNearestTileVectors, thread.largest[static_cast<size_t>(c)],
                            largest_[at]);
      for (int64_t q = 0; q < rows; q += kNearestTileRows) {
        thread.packer.multiply(query_panel(thread, c, q), thread.scale.get() + c * kQueries + q,
                               features(c), thread.sums.get() + q * panel_);
      }
    }
  }

  void offer(Thread& thread, NearestSelect& select, int64_t slot, const int64_t* queries,
             int64_t rows, int64_t begin, int64_t targets, int64_t panel) {
    const int64_t first = panel * panel_, n = std::min(panel_, targets - first);
    for (int64_t q = 0; q < rows; ++q) {
      select.offer(slot + q, queries[q], thread.rows[static_cast<size_t>(q)], begin + first, n,
                   thread.sums.get() + q * panel_, squares_.data() + first,
                   residuals_.data() + first, most_[static_cast<size_t>(panel)]);
    }
  }

  int16_t* packed(int64_t panel, int64_t chunk) const {
    return packed_.get() + (panel * chunks_ + chunk) * panel_ * kNearestChunk;
  }
  int16_t* query_panel(const Thread& thread, int64_t chunk, int64_t q) const {
    return thread.queries.get() + (chunk * kQueries + q) * kNearestChunk;
  }

  const NearestProblem& problem_;
  NearestCenter center_;
  NearestDotKernels dots_;
  int64_t chunks_, panel_, panel_size_, most_panels_, most_queries_;
  int64_t packed_from_ = -1;
  NearestMemory<int16_t> packed_{0};         // [most_panels, chunks] panels
  std::vector<double> scale_;                // [most_panels, chunks, panel]
  std::vector<double> squares_, residuals_;  // [most_panels, panel]
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
