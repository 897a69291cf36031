// Steps that the passes of norm_act share: constants of a chunk, and sums over chunks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "core/norm_act.h"
#include "cpu/norm_act/lanes.h"
#include "cpu/norm_act/partition.h"

namespace fastgan::cpu {

// Statistics are float32, or float64 for float64 tensors, like the computation.
template <class A>
struct Statistics {
  const A* mean;  // [B, G]
  const A* rstd;  // [B, G]
};

// Constants of the normalisation itself, the same in every pass.
template <class A>
void fill_norm(const NormActPartition& part, const NormActChunk& chunk, const NormActAffine& weight,
               const NormActAffine& bias, Statistics<A> statistics, const LaneMemory<A>& memory) {
  const int64_t C = part.shape.C, K = part.group_channels, row = chunk.b * part.shape.G;
  const NormActLanes<A>& to = memory.constant;
  memory.fill(to.mean, chunk.channel, part.width,
              [&](int64_t c) { return statistics.mean[row + c / K]; });
  memory.fill(to.scale, chunk.channel, part.width, [&](int64_t c) {
    return affine_at(weight, 1, chunk.b, c, C) * statistics.rstd[row + c / K];
  });
  memory.fill(to.bias, chunk.channel, part.width,
              [&](int64_t c) { return affine_at(bias, 0, chunk.b, c, C); });
}

// Sums over S of every (b, c), collected chunk by chunk.
class ChannelSums {
 public:
  ChannelSums(const NormActPartition& part, int64_t count)
      : part_(part),
        count_(count),
        partial_(uninitialised<double>(part.units * part.chunks * count * part.width)),
        total_(uninitialised<double>(count * part.shape.B * part.shape.C)) {}

  // [count, width] of one chunk
  double* partial(int64_t unit, int64_t chunk) const {
    return partial_.get() + (unit * part_.chunks + chunk) * count_ * part_.width;
  }

  // [B, C] of one sum
  double* total(int64_t sum) const { return total_.get() + sum * part_.shape.B * part_.shape.C; }

  // Multiplies one sum of the channels of a group.
  void scale(int64_t sum, int64_t b, int64_t group, double factor) const {
    const int64_t K = part_.group_channels;
    double* to = total(sum) + b * part_.shape.C + group * K;
    for (int64_t c = 0; c < K; ++c) to[c] *= factor;
  }

  // Adds up the chunks of a unit in their order.
  void finish(int64_t unit) const {
    const int64_t K = part_.group_channels, C = part_.shape.C;
    const int64_t first = part_.first_group(unit) * K, last = part_.last_group(unit) * K;
    const int64_t row = part_.sample(unit) * C;
    for (int64_t s = 0; s < count_; ++s) {
      std::fill(total(s) + row + first, total(s) + row + last, 0.0);
      for (int64_t i = 0; i < part_.chunks; ++i) {
        double* to = total(s) + row + part_.chunk(unit, i).channel;
        const double* from = partial(unit, i) + s * part_.width;
        for (int64_t c = 0; c < part_.width; ++c) to[c] += from[c];
      }
    }
  }

 private:
  const NormActPartition& part_;
  int64_t count_;
  std::unique_ptr<double[]> partial_, total_;
};

// Calls kernel(offset in the tensor, tiles, lanes), which adds to memory.sums, for the whole tiles
// of a chunk and for the rest; folds both into partial [count, width].
template <class A, class Kernel>
void reduce_chunk(const NormActPartition& part, const NormActChunk& chunk, int64_t count,
                  const LaneMemory<A>& memory, double* partial, const Kernel& kernel) {
  const int64_t elements = chunk.rows * part.width;
  const int64_t tiles = elements / part.lanes, rest = elements % part.lanes;
  std::fill_n(partial, count * part.width, 0.0);
  const auto add = [&](int64_t offset, int64_t tile_count, int64_t lanes) {
    if (tile_count == 0 || lanes == 0) return;
    std::fill_n(memory.sums, count * lanes, 0.0);
    kernel(chunk.offset + offset, tile_count, lanes);
    fold_lanes(memory.sums, lanes, count, part.width, partial);
  };
  add(0, tiles, part.lanes);
  add(tiles * part.lanes, 1, rest);
}

// Calls kernel(offset in the tensor, tiles, lanes) for the whole tiles of a chunk and for the rest.
template <class Kernel>
void apply_chunk(const NormActPartition& part, const NormActChunk& chunk, const Kernel& kernel) {
  const int64_t elements = chunk.rows * part.width;
  const int64_t tiles = elements / part.lanes, rest = elements % part.lanes;
  if (tiles > 0) kernel(chunk.offset, tiles, part.lanes);
  if (rest > 0) kernel(chunk.offset + tiles * part.lanes, 1, rest);
}

// Steps of a derivative, of which each has constants of its own.
enum Step : int64_t { kReduce, kApply };

// Group means of the first derivative, from the sums of u and u xh of each channel.
inline NormActBwdMeans bwd_means(const NormActPartition& part, const NormActAffine& weight,
                                 const double* sum_u, const double* sum_u_xh, int64_t b,
                                 int64_t group) {
  const int64_t C = part.shape.C, K = part.group_channels;
  NormActBwdMeans means;
  for (int64_t c = group * K; c < (group + 1) * K; ++c) {
    const double w = affine_at(weight, 1, b, c, C);
    means.weight_u += w * sum_u[b * C + c];
    means.weight_u_xh += w * sum_u_xh[b * C + c];
  }
  const double m = static_cast<double>(K) * static_cast<double>(part.shape.S);
  means.weight_u /= m;
  means.weight_u_xh /= m;
  return means;
}

}  // namespace fastgan::cpu
