#include <cmath>
#include <cstdint>

#include "cpu/norm_act/kernels.h"
#include "cpu/norm_act/lanes.h"
#include "cpu/norm_act/norm_act.h"
#include "cpu/norm_act/partition.h"
#include "cpu/norm_act/sums.h"
#include "cpu/stream.h"

namespace fastgan::cpu {
namespace {

// The two steps of the value: statistics, and their application.
template <class T>
class Forward {
 public:
  using A = Compute<T>;

  explicit Forward(const NormActFwdParams& params)
      : p_(params),
        part_(params.shape),
        kernels_(norm_act_kernels<T>()),
        arena_(part_),
        moments_(part_, 2),
        x_(static_cast<const T*>(params.x)),
        y_(static_cast<T*>(params.y)),
        mean_(static_cast<A*>(params.mean)),
        rstd_(static_cast<A*>(params.rstd)),
        stream_(exceeds_cache(part_.elements() * static_cast<int64_t>(sizeof(T)))),
        from_memory_(part_.elements() / p_.shape.B * static_cast<int64_t>(sizeof(T)) > kCached) {}

  void both() {
    part_.run([&](int64_t t, int64_t u, int64_t i) { reduce(t, u, i); },
              [&](int64_t u) { finish(u); },
              [&](int64_t t, int64_t u, int64_t i) { apply(t, u, i); });
  }

  void statistics() {
    part_.run([&](int64_t t, int64_t u, int64_t i) { reduce(t, u, i); },
              [&](int64_t u) { finish(u); }, [](int64_t, int64_t, int64_t) {});
  }

  void application() {
    part_.run([](int64_t, int64_t, int64_t) {}, [](int64_t) {},
              [&](int64_t t, int64_t u, int64_t i) { apply(t, u, i); });
  }

 private:
  void reduce(int64_t thread, int64_t unit, int64_t index) {
    const NormActChunk chunk = part_.chunk(unit, index);
    const LaneMemory<A> memory = arena_.of(thread);
    const int64_t elements = chunk.rows * part_.width;
    const int64_t tiles = elements / part_.lanes, rest = elements % part_.lanes;
    const T* from = x_ + chunk.offset;
    double* lane_m2 = memory.sums + part_.lanes;
    if (tiles > 0) kernels_.moments(from, tiles, part_.lanes, from_memory_, memory.sums, lane_m2);
    double* out = moments_.partial(unit, index);
    fold_moments(memory.sums, lane_m2, part_.lanes, tiles, from + tiles * part_.lanes, rest,
                 part_.width, out, out + part_.width);
  }

  void finish(int64_t unit) {
    const double m = static_cast<double>(part_.group_channels) * static_cast<double>(p_.shape.S);
    for (int64_t group = part_.first_group(unit); group < part_.last_group(unit); ++group) {
      // the group's columns in a chunk of all channels; the only column of a chunk of one
      const int64_t begin = part_.width == 1 ? 0 : group * part_.group_channels;
      const int64_t end = part_.width == 1 ? 1 : begin + part_.group_channels;
      double sum = 0, m2 = 0;
      const auto each = [&](const auto& visit) {
        for (int64_t i = 0; i < part_.chunks; ++i) {
          const double rows = static_cast<double>(part_.chunk(unit, i).rows);
          const double* moment = moments_.partial(unit, i);
          for (int64_t c = begin; c < end; ++c) visit(rows, moment[c], moment[part_.width + c]);
        }
      };
      each([&](double rows, double chunk_mean, double) { sum += rows * chunk_mean; });
      const double center = sum / m;
      each([&](double rows, double chunk_mean, double chunk_m2) {
        m2 += chunk_m2 + rows * (chunk_mean - center) * (chunk_mean - center);
      });
      const int64_t at = part_.sample(unit) * p_.shape.G + group;
      mean_[at] = static_cast<A>(center);
      rstd_[at] = static_cast<A>(1 / std::sqrt(m2 / m + p_.eps));
    }
  }

  void apply(int64_t thread, int64_t unit, int64_t index) {
    const NormActChunk chunk = part_.chunk(unit, index);
    const LaneMemory<A> memory = arena_.of(thread);
    memory.once(0, chunk, [&] {
      fill_norm(part_, chunk, p_.weight, p_.bias, Statistics<A>{mean_, rstd_}, memory);
    });
    apply_chunk(part_, chunk, [&](int64_t at, int64_t tiles, int64_t lanes) {
      kernels_.fwd(x_ + at, y_ + at, tiles, lanes, memory.constant,
                   static_cast<A>(p_.negative_slope), stream_);
    });
  }

  const NormActFwdParams& p_;
  const NormActPartition part_;
  const NormActKernels<T> kernels_;
  const LaneArena<A> arena_;
  const ChannelSums moments_;
  const T* x_;
  T* y_;
  A* mean_;
  A* rstd_;
  const bool stream_;
  // decided by the size of one sample: its bits must not depend on the others
  const bool from_memory_;
  static constexpr int64_t kCached = 4 << 20;
};

}  // namespace

void norm_act_fwd(const NormActFwdParams& params) {
  if (params.shape.empty()) return;
  by_dtype(params.shape.dtype, [&](auto type) { Forward<decltype(type)>(params).both(); });
}

void norm_act_statistics(const NormActFwdParams& params) {
  if (params.shape.empty()) return;
  by_dtype(params.shape.dtype, [&](auto type) { Forward<decltype(type)>(params).statistics(); });
}

void norm_act_apply(const NormActFwdParams& params) {
  if (params.shape.empty()) return;
  by_dtype(params.shape.dtype, [&](auto type) { Forward<decltype(type)>(params).application(); });
}

}  // namespace fastgan::cpu
