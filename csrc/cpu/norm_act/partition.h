// How norm_act cuts its tensors into work, and how the work runs over threads.
//
// unit:  one reduction's memory: a sample (channels last) or a group of one (channels first).
// chunk: what one thread takes at a time. Chunks depend on the shape alone, and their sums are
//        added in their order, so results are the same for any number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/norm_act.h"

namespace fastgan::cpu {

struct NormActChunk {
  int64_t b;        // sample
  int64_t channel;  // first channel
  int64_t offset;   // of the first element in the tensor
  int64_t rows;     // of `width` elements
};

struct NormActPartition {
  // 128 KB of float32: small enough to balance threads, large enough to hide a chunk's overhead
  static constexpr int64_t kChunkElements = 32768;
  // at least two 16-lane vectors a tile, so that one sum need not wait for the one before it
  static constexpr int64_t kVector = 16, kMinLanes = 32;

  NormActShape shape;
  int64_t group_channels;  // C / G
  int64_t width;           // channels side by side in memory: C or 1
  int64_t lanes;           // elements of a tile, a multiple of width
  int64_t units, chunks;   // chunks of one unit
  int64_t chunk_rows;      // rows of a full chunk, a multiple of lanes / width
  int64_t row_chunks;      // chunks over S
  int threads;
  bool unit_per_thread;  // threads share no unit

  explicit NormActPartition(const NormActShape& s) : shape(s) {
    const bool last = s.layout == Layout::kChannelsLast;
    group_channels = s.C / s.G;
    width = last ? s.C : 1;
    lanes = width;
    if (lanes < kMinLanes) {
      lanes = std::lcm(lanes, kVector);
      lanes *= (kMinLanes + lanes - 1) / lanes;
    }
    const int64_t tile_rows = lanes / width;
    chunk_rows = std::max<int64_t>(1, kChunkElements / lanes) * tile_rows;
    row_chunks = (s.S + chunk_rows - 1) / chunk_rows;
    units = last ? s.B : s.B * s.G;
    chunks = last ? row_chunks : group_channels * row_chunks;
    threads = static_cast<int>(
        std::clamp<int64_t>(elements() / kChunkElements, 1, std::max(s.threads, 1)));
    // a unit this small stays in a core's cache between its two passes
    const bool small = elements() / units <= (int64_t{1} << 20);
    unit_per_thread = units >= 4 * threads || (units >= threads && small);
  }

  int64_t elements() const { return shape.B * shape.C * shape.S; }

  NormActChunk chunk(int64_t unit, int64_t index) const {
    const int64_t start = index % row_chunks * chunk_rows;
    NormActChunk out;
    out.rows = std::min(chunk_rows, shape.S - start);
    if (shape.layout == Layout::kChannelsLast) {
      out.b = unit;
      out.channel = 0;
      out.offset = (unit * shape.S + start) * shape.C;
    } else {
      out.b = unit / shape.G;
      out.channel = unit % shape.G * group_channels + index / row_chunks;
      out.offset = (out.b * shape.C + out.channel) * shape.S + start;
    }
    return out;
  }

  // Groups [first, last) of one sample that a unit holds.
  int64_t sample(int64_t unit) const {
    return shape.layout == Layout::kChannelsLast ? unit : unit / shape.G;
  }
  int64_t first_group(int64_t unit) const {
    return shape.layout == Layout::kChannelsLast ? 0 : unit % shape.G;
  }
  int64_t last_group(int64_t unit) const {
    return shape.layout == Layout::kChannelsLast ? shape.G : unit % shape.G + 1;
  }

  // Runs reduce(thread, unit, chunk), finish(unit), apply(thread, unit, chunk), in this order for
  // each unit. A thread applies first what it reduced last: that is still in its cache.
  template <class Reduce, class Finish, class Apply>
  void run(const Reduce& reduce, const Finish& finish, const Apply& apply) const {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#ifdef _OPENMP
      const int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
#else
      const int64_t thread = 0, team = 1;
#endif
      if (unit_per_thread) {
        for (int64_t u = units * thread / team; u < units * (thread + 1) / team; ++u) {
          for (int64_t i = 0; i < chunks; ++i) reduce(thread, u, i);
          finish(u);
          for (int64_t i = chunks; i-- > 0;) apply(thread, u, i);
        }
      } else {
        const int64_t begin = chunks * thread / team, end = chunks * (thread + 1) / team;
        for (int64_t u = 0; u < units; ++u) {
          for (int64_t i = begin; i < end; ++i) reduce(thread, u, i);
#pragma omp barrier
#pragma omp single
          finish(u);
          for (int64_t i = end; i-- > begin;) apply(thread, u, i);
        }
      }
    }
  }
};

// Memory that every element of is written before it is read.
template <class T>
std::unique_ptr<T[]> uninitialised(int64_t size) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(size)]);
}

}  // namespace fastgan::cpu
