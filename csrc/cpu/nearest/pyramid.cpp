// Search of volumes by their coarse rows, best first.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/ceil_div.h"
#include "cpu/nearest/nearest.h"
#include "cpu/nearest/state.h"

namespace fastgan::cpu {
namespace {

struct Moments {
  double sum = 0, squares = 0;
};

// Moments of the finest blocks, of two voxels along each axis, of one volume. lines [2, W] is
// scratch: rows of a block are added before neighbours in a row are, which a vector is good at.
void finest(const NearestPyramid& g, const NearestKernels& kernels, const char* x, double* lines,
            Moments* to) {
  const int64_t d = ceil_div(g.D, 2), h = ceil_div(g.H, 2), w = ceil_div(g.W, 2);
  double* sums = lines;
  double* squares = lines + g.W;
  for (int64_t s = 0; s < g.S; ++s) {
    for (int64_t z = 0; z < d; ++z) {
      for (int64_t y = 0; y < h; ++y, to += w) {
        std::fill_n(lines, 2 * g.W, 0.0);
        for (int64_t i = 2 * z; i < std::min(2 * z + 2, g.D); ++i) {
          for (int64_t j = 2 * y; j < std::min(2 * y + 2, g.H); ++j) {
            const int64_t row = ((s * g.D + i) * g.H + j) * g.W;
            kernels.moments(x + row * kernels.element, g.W, sums, squares);
          }
        }
        for (int64_t i = 0; i < g.W / 2; ++i) {
          to[i] = {sums[2 * i] + sums[2 * i + 1], squares[2 * i] + squares[2 * i + 1]};
        }
        if (g.W % 2) to[w - 1] = {sums[g.W - 1], squares[g.W - 1]};
      }
    }
  }
}

// Moments of a level from those of the next finer one, in place: a block is written after all of
// its parts, the first of which lies no further on, were read.
void coarsen(const NearestPyramid& g, int level, const Moments* from, Moments* to) {
  const int64_t p = g.side[level], fine = g.side[level + 1];
  const int64_t d = ceil_div(g.D, p), h = ceil_div(g.H, p), w = ceil_div(g.W, p);
  const int64_t fd = ceil_div(g.D, fine), fh = ceil_div(g.H, fine), fw = ceil_div(g.W, fine);
  for (int64_t s = 0; s < g.S; ++s) {
    for (int64_t z = 0; z < d; ++z) {
      for (int64_t y = 0; y < h; ++y) {
        for (int64_t x = 0; x < w; ++x) {
          Moments sum;
          for (int64_t i = 2 * z; i < std::min(2 * z + 2, fd); ++i) {
            for (int64_t j = 2 * y; j < std::min(2 * y + 2, fh); ++j) {
              for (int64_t k = 2 * x; k < std::min(2 * x + 2, fw); ++k) {
                const Moments& part = from[((s * fd + i) * fh + j) * fw + k];
                sum.sum += part.sum;
                sum.squares += part.squares;
              }
            }
          }
          to[((s * d + z) * h + y) * w + x] = sum;
        }
      }
    }
  }
}

void write_level(const NearestPyramid& g, int level, const Moments* from, float* to) {
  const int64_t p = g.side[level];
  const int64_t d = ceil_div(g.D, p), h = ceil_div(g.H, p), w = ceil_div(g.W, p);
  const auto extent = [p](int64_t block, int64_t size) { return std::min(p, size - block * p); };
  for (int64_t s = 0; s < g.S; ++s) {
    for (int64_t z = 0; z < d; ++z) {
      for (int64_t y = 0; y < h; ++y) {
        for (int64_t x = 0; x < w; ++x, ++from, to += 2) {
          const double n = static_cast<double>(extent(z, g.D) * extent(y, g.H) * extent(x, g.W));
          to[0] = static_cast<float>(from->sum / std::sqrt(n));
          const double spread = from->squares - from->sum * from->sum / n;
          to[1] = static_cast<float>(std::sqrt(std::max(spread, 0.0)));
        }
      }
    }
  }
}

// What is known of a target: its distance is at least `bound`, by coarse rows up to `level`.
struct Entry {
  double bound;
  int64_t index;
  int level;
  // a heap keeps its largest element first
  bool operator<(const Entry& other) const {
    return bound != other.bound ? bound > other.bound : index > other.index;
  }
};

class Search {
 public:
  explicit Search(const NearestPyramidParams& params)
      : params_(params), problem_(params.search), dots_(nearest_dot_kernels()) {
    const int64_t threads = std::max(params.search.threads, 1);
    for (int64_t t = 0; t < threads; ++t) {
      heaps_.emplace_back(params.search.k);
      entries_.emplace_back();
      entries_.back().reserve(static_cast<size_t>(params.search.M));
    }
    scratch_.resize(static_cast<size_t>(threads * kNearestChunk));
  }

  void find(int64_t q) {
    const NearestParams& p = params_.search;
    const NearestPyramid& g = params_.pyramid;
    NearestHeap& heap = heaps_[static_cast<size_t>(nearest_thread())];
    std::vector<Entry>& entries = entries_[static_cast<size_t>(nearest_thread())];
    heap.clear();
    entries.clear();
    int64_t read = 0;
    for (int64_t j = 0; j < p.M && !p.bad_query[q]; ++j) {
      if (!problem_.allowed(q, j)) continue;
      entries.push_back({bound(q, j, 0, 0), j, 0});
      read += g.width(0);
    }
    std::make_heap(entries.begin(), entries.end());
    while (!entries.empty()) {
      std::pop_heap(entries.begin(), entries.end());
      const Entry entry = entries.back();
      entries.pop_back();
      if (entry.bound > reach(heap)) break;
      if (entry.level + 1 < g.levels) {
        const int level = entry.level + 1;
        read += g.width(level);
        const double closer = std::max(entry.bound, bound(q, entry.index, level, offset(level)));
        entries.push_back({closer, entry.index, level});
        std::push_heap(entries.begin(), entries.end());
      } else {
        read += p.F;
        heap.offer(exact(q, entry.index), entry.index);
      }
    }
    params_.read[q] = read;
    problem_.write(q, heap);
  }

 private:
  int64_t offset(int level) const {
    int64_t at = 0;
    for (int i = 0; i < level; ++i) at += params_.pyramid.width(i);
    return at;
  }

  // Never above |x - y|.
  double bound(int64_t q, int64_t j, int level, int64_t at) const {
    const int64_t width = params_.pyramid.width();
    const double squared =
        dots_.coarse(params_.query_coarse + q * width + at, params_.target_coarse + j * width + at,
                     params_.pyramid.width(level));
    const double lower =
        std::sqrt(squared) * (1 - 1e-5) - (params_.query_error[q] + params_.target_error[j]);
    return lower > 0 ? lower : 0;
  }

  // Beyond this a target cannot be among the k nearest; the factor covers the rounding of exact().
  double reach(const NearestHeap& heap) const {
    const int64_t worst = heap.worst();
    if (worst == std::numeric_limits<int64_t>::max()) {
      return std::numeric_limits<double>::infinity();
    }
    return std::sqrt(nearest_squared(problem_.exact, worst)) * (1 + 1e-9);
  }

  // The additions of nearest_direct, in its order.
  int64_t exact(int64_t q, int64_t j) {
    const int64_t F = params_.search.F;
    double* x = scratch_.data() + nearest_thread() * kNearestChunk;
    int64_t whole = 0;
    double total = 0;
    for (int64_t start = 0; start < F; start += kNearestSegment) {
      const int64_t stop = std::min(start + kNearestSegment, F);
      double part = 0;
      for (int64_t f = start; f < stop; f += kNearestChunk) {
        const int64_t n = std::min(kNearestChunk, stop - f);
        problem_.kernels.to_double(problem_.query(q, f), n, x);
        problem_.kernels.direct(x, 1, problem_.target(j, f), n, &part, 1);
      }
      if (problem_.exact) whole += static_cast<int64_t>(part);
      total += part;
    }
    return problem_.exact ? whole : nearest_key(false, total);
  }

  const NearestPyramidParams& params_;
  NearestProblem problem_;
  NearestDotKernels dots_;
  std::vector<NearestHeap> heaps_;
  std::vector<std::vector<Entry>> entries_;
  std::vector<double> scratch_;
};

}  // namespace

void nearest_pyramid_build(const NearestPyramid& g, Dtype dtype, const void* volumes, int64_t rows,
                           int threads, float* coarse, double* error, uint8_t* bad) {
  const NearestKernels kernels = nearest_kernels(dtype);
  const int64_t F = g.S * g.D * g.H * g.W, width = g.width(), blocks = g.blocks(g.levels - 1);
  const size_t scratch = static_cast<size_t>(std::max(threads, 1));
  std::vector<Moments> memory(scratch * static_cast<size_t>(blocks));
  std::vector<double> lines(scratch * static_cast<size_t>(2 * g.W));
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
  for (int64_t row = 0; row < rows; ++row) {
    Moments* moments = memory.data() + nearest_thread() * blocks;
    const char* volume = static_cast<const char*>(volumes) + row * F * kernels.element;
    finest(g, kernels, volume, lines.data() + nearest_thread() * 2 * g.W, moments);
    double squares = 0;
    for (int64_t i = 0; i < blocks; ++i) squares += moments[i].squares;
    float* end = coarse + (row + 1) * width;
    for (int level = g.levels; level-- > 0;) {
      if (level + 1 < g.levels) coarsen(g, level, moments, moments);
      end -= g.width(level);
      write_level(g, level, moments, end);
    }
    const double length = std::sqrt(squares);
    // 1e-40: numbers too small for float32
    error[row] = length <= kNearestPyramidLargest ? length * kNearestPyramidError + 1e-40 * F
                                                  : std::numeric_limits<double>::infinity();
    bad[row] = !(length <= kNearestPyramidLargest) && !kernels.finite(volume, F);
  }
}

void nearest_pyramid(const NearestPyramidParams& params) {
  Search search(params);
  const int threads = params.search.threads;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
  for (int64_t q = 0; q < params.search.N; ++q) search.find(q);
}

}  // namespace fastgan::cpu
