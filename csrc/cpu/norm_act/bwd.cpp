#include <cstdint>

#include "cpu/norm_act/kernels.h"
#include "cpu/norm_act/lanes.h"
#include "cpu/norm_act/norm_act.h"
#include "cpu/norm_act/partition.h"
#include "cpu/norm_act/sums.h"
#include "cpu/stream.h"

namespace fastgan::cpu {
namespace {

template <class T>
void bwd(const NormActBwdParams& p) {
  using A = Compute<T>;
  const NormActPartition part(p.shape);
  const NormActKernels<T> kernels = norm_act_kernels<T>();
  const LaneArena<A> arena(part);
  const ChannelSums sums(part, 2);
  const int64_t B = p.shape.B, C = p.shape.C, G = p.shape.G, K = part.group_channels;
  const auto means = uninitialised<NormActBwdMeans>(B * G);
  const T* g = static_cast<const T*>(p.g);
  const T* x = static_cast<const T*>(p.x);
  T* d_x = static_cast<T*>(p.d_x);
  const Statistics<A> statistics{static_cast<const A*>(p.mean), static_cast<const A*>(p.rstd)};
  const A slope = static_cast<A>(p.negative_slope);
  const bool stream = exceeds_cache(part.elements() * sizeof(T));

  const auto reduce = [&](int64_t thread, int64_t unit, int64_t index) {
    const NormActChunk chunk = part.chunk(unit, index);
    const LaneMemory<A> memory = arena.of(thread);
    memory.once(kReduce, chunk,
                [&] { fill_norm(part, chunk, p.weight, p.bias, statistics, memory); });
    reduce_chunk(part, chunk, 2, memory, sums.partial(unit, index),
                 [&](int64_t at, int64_t tiles, int64_t lanes) {
                   kernels.bwd_sums(g + at, x + at, tiles, lanes, memory.constant, slope,
                                    memory.sums);
                 });
  };
  const auto finish = [&](int64_t unit) {
    sums.finish(unit);
    const int64_t b = part.sample(unit);
    for (int64_t group = part.first_group(unit); group < part.last_group(unit); ++group) {
      sums.scale(1, b, group, statistics.rstd[b * G + group]);
      means[b * G + group] = bwd_means(part, p.weight, sums.total(0), sums.total(1), b, group);
    }
  };
  const auto apply = [&](int64_t thread, int64_t unit, int64_t index) {
    const NormActChunk chunk = part.chunk(unit, index);
    const LaneMemory<A> memory = arena.of(thread);
    memory.once(kApply, chunk, [&] {
      fill_norm(part, chunk, p.weight, p.bias, statistics, memory);
      const auto fill = [&](A* to, double NormActBwdCoefficients::* which) {
        memory.fill(to, chunk.channel, part.width, [&](int64_t c) {
          const int64_t at = chunk.b * G + c / K;
          return norm_act_bwd_coefficients(affine_at(p.weight, 1, chunk.b, c, C),
                                           statistics.rstd[at], means[at]).*
                 which;
        });
      };
      fill(memory.constant.first[0], &NormActBwdCoefficients::u);
      fill(memory.constant.first[1], &NormActBwdCoefficients::centred);
      fill(memory.constant.first[2], &NormActBwdCoefficients::one);
    });
    apply_chunk(part, chunk, [&](int64_t at, int64_t tiles, int64_t lanes) {
      kernels.bwd(g + at, x + at, d_x + at, tiles, lanes, memory.constant, slope, stream);
    });
  };
  part.run(reduce, finish, apply);
  write_gradient(p.d_bias, sums.total(0), B, C);
  write_gradient(p.d_weight, sums.total(1), B, C);
}

}  // namespace

void norm_act_bwd(const NormActBwdParams& params) {
  if (params.shape.empty()) {
    write_zeros(params.d_weight, params.shape.B, params.shape.C);
    write_zeros(params.d_bias, params.shape.B, params.shape.C);
    return;
  }
  by_dtype(params.shape.dtype, [&](auto type) { bwd<decltype(type)>(params); });
}

}  // namespace fastgan::cpu
