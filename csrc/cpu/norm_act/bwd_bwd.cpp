#include <cstdint>

#include "cpu/norm_act/kernels.h"
#include "cpu/norm_act/lanes.h"
#include "cpu/norm_act/norm_act.h"
#include "cpu/norm_act/partition.h"
#include "cpu/norm_act/sums.h"
#include "cpu/stream.h"

namespace fastgan::cpu {
namespace {

// Group means of the second derivative, from the sums over S of each channel.
NormActBwdBwdMeans bwd_bwd_means(const NormActPartition& part, const NormActBwdBwdParams& p,
                                 const ChannelSums& sums, int64_t b, int64_t group) {
  const int64_t C = part.shape.C, K = part.group_channels;
  NormActBwdBwdMeans means;
  means.first = bwd_means(part, p.weight, sums.total(0), sums.total(1), b, group);
  for (int64_t c = group * K; c < (group + 1) * K; ++c) {
    const int64_t at = b * C + c;
    const double hg = affine_at(p.gg_weight, 0, b, c, C);
    means.v += sums.total(2)[at];
    means.v_xh += sums.total(3)[at];
    means.weight_v_u += affine_at(p.weight, 1, b, c, C) * sums.total(4)[at];
    means.hg_u += hg * sums.total(0)[at];
    means.hg_u_xh += hg * sums.total(1)[at];
  }
  const double m = static_cast<double>(K) * static_cast<double>(part.shape.S);
  for (double* mean : {&means.v, &means.v_xh, &means.weight_v_u, &means.hg_u, &means.hg_u_xh}) {
    *mean /= m;
  }
  return means;
}

template <class T>
void bwd_bwd(const NormActBwdBwdParams& p) {
  using A = Compute<T>;
  const NormActPartition part(p.shape);
  const NormActKernels<T> kernels = norm_act_kernels<T>();
  const LaneArena<A> arena(part);
  const ChannelSums sums(part, 5);
  const int64_t B = p.shape.B, C = p.shape.C, G = p.shape.G, K = part.group_channels;
  const auto means = uninitialised<NormActBwdBwdMeans>(B * G);
  const auto d_weight = uninitialised<double>(B * C);
  const T* v = static_cast<const T*>(p.gg_x);
  const T* g = static_cast<const T*>(p.g);
  const T* x = static_cast<const T*>(p.x);
  T* d_g = static_cast<T*>(p.d_g);
  T* d_x = static_cast<T*>(p.d_x);
  const Statistics<A> statistics{static_cast<const A*>(p.mean), static_cast<const A*>(p.rstd)};
  const A slope = static_cast<A>(p.negative_slope);
  const bool stream = exceeds_cache(2 * part.elements() * sizeof(T));
  const auto v_at = [v](int64_t at) { return v ? v + at : nullptr; };

  const auto reduce = [&](int64_t thread, int64_t unit, int64_t index) {
    const NormActChunk chunk = part.chunk(unit, index);
    const LaneMemory<A> memory = arena.of(thread);
    memory.once(kReduce, chunk,
                [&] { fill_norm(part, chunk, p.weight, p.bias, statistics, memory); });
    reduce_chunk(part, chunk, 5, memory, sums.partial(unit, index),
                 [&](int64_t at, int64_t tiles, int64_t lanes) {
                   kernels.bwd_bwd_sums(v_at(at), g + at, x + at, tiles, lanes, memory.constant,
                                        slope, memory.sums);
                 });
  };
  const auto finish = [&](int64_t unit) {
    sums.finish(unit);
    const int64_t b = part.sample(unit);
    for (int64_t group = part.first_group(unit); group < part.last_group(unit); ++group) {
      const double rstd = statistics.rstd[b * G + group];
      sums.scale(1, b, group, rstd);
      sums.scale(3, b, group, rstd);
      const NormActBwdBwdMeans m = bwd_bwd_means(part, p, sums, b, group);
      means[b * G + group] = m;
      for (int64_t at = b * C + group * K; at < b * C + (group + 1) * K; ++at) {
        d_weight[at] = norm_act_bwd_bwd_weight(rstd, sums.total(0)[at], sums.total(1)[at],
                                               sums.total(4)[at], m);
      }
    }
  };
  const auto apply = [&](int64_t thread, int64_t unit, int64_t index) {
    const NormActChunk chunk = part.chunk(unit, index);
    const LaneMemory<A> memory = arena.of(thread);
    memory.once(kApply, chunk, [&] {
      fill_norm(part, chunk, p.weight, p.bias, statistics, memory);
      using Coefficients = NormActBwdBwdCoefficients;
      const auto fill = [&](A* to, double Coefficients::* which) {
        memory.fill(to, chunk.channel, part.width, [&](int64_t c) {
          const int64_t at = chunk.b * G + c / K;
          return norm_act_bwd_bwd_coefficients(affine_at(p.weight, 1, chunk.b, c, C),
                                               affine_at(p.gg_weight, 0, chunk.b, c, C),
                                               affine_at(p.gg_bias, 0, chunk.b, c, C),
                                               statistics.rstd[at], means[at]).*
                 which;
        });
      };
      fill(memory.constant.first[0], &Coefficients::g_v);
      fill(memory.constant.first[1], &Coefficients::g_centred);
      fill(memory.constant.first[2], &Coefficients::g_one);
      fill(memory.constant.second[0], &Coefficients::x_u);
      fill(memory.constant.second[1], &Coefficients::x_v);
      fill(memory.constant.second[2], &Coefficients::x_centred);
      fill(memory.constant.second[3], &Coefficients::x_one);
    });
    apply_chunk(part, chunk, [&](int64_t at, int64_t tiles, int64_t lanes) {
      kernels.bwd_bwd(v_at(at), g + at, x + at, d_g + at, d_x + at, tiles, lanes, memory.constant,
                      slope, stream);
    });
  };
  part.run(reduce, finish, apply);
  write_gradient(p.d_weight, d_weight.get(), B, C);
}

}  // namespace

void norm_act_bwd_bwd(const NormActBwdBwdParams& params) {
  if (params.shape.empty()) {
    return write_zeros(params.d_weight, params.shape.B, params.shape.C);
  }
  by_dtype(params.shape.dtype, [&](auto type) { bwd_bwd<decltype(type)>(params); });
}

}  // namespace fastgan::cpu
