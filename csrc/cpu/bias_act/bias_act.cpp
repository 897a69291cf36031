#include "cpu/bias_act/bias_act.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "cpu/bias_act/kernels.h"

namespace fastgan::cpu {
namespace {

// A thread's smallest share: 128 KB of float32, as in norm_act.
constexpr int64_t kShare = 32768;

int team(int64_t size, int threads) {
  return static_cast<int>(std::clamp<int64_t>(size / kShare, 1, std::max(threads, 1)));
}

template <class T>
void fwd(const BiasActFwdParams& p) {
  using A = Compute<T>;
  const T* x = static_cast<const T*>(p.x);
  const T* bias = static_cast<const T*>(p.bias);
  T* y = static_cast<T*>(p.y);
  const auto bias_at = [&](int64_t i) { return bias ? load(bias[i / p.run % p.C]) : A(0); };
  // Channels last: whole periods of channels and of bytes of bits. Channels first: a bias for every
  // element of a chunk, drawn up anew for each.
  const bool last = p.run == 1;
  const int64_t period = last ? std::lcm(p.C, int64_t{8}) : kShare;
  const int64_t chunk = std::max<int64_t>(1, kShare / period) * period;
  const int64_t chunks = (p.size + chunk - 1) / chunk;
  const int threads = team(p.size, p.threads);
  const BiasActKernels<T> kernels = bias_act_kernels<T>();
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    std::vector<A> values(static_cast<size_t>(period));
    for (int64_t i = 0; last && i < period; ++i) values[i] = bias_at(i);
#pragma omp for schedule(static)
    for (int64_t c = 0; c < chunks; ++c) {
      const int64_t at = c * chunk, size = std::min(chunk, p.size - at);
      for (int64_t i = 0; !last && i < size; ++i) values[i] = bias_at(at + i);
      kernels.fwd(x + at, values.data(), period, size, static_cast<A>(p.negative_slope), y + at,
                  p.bits + at / 8);
    }
  }
}

template <class T>
void bwd(const BiasActBwdParams& p) {
  using A = Compute<T>;
  const T* g = static_cast<const T*>(p.g);
  T* d_x = static_cast<T*>(p.d_x);
  const int64_t chunks = (p.size + kShare - 1) / kShare;
  const int threads = team(p.size, p.threads);
  const BiasActKernels<T> kernels = bias_act_kernels<T>();
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t at = i * kShare;
    kernels.bwd(g + at, p.bits + at / 8, std::min(kShare, p.size - at),
                static_cast<A>(p.negative_slope), d_x + at);
  }
}

}  // namespace

void bias_act_fwd(const BiasActFwdParams& params) {
  if (params.size == 0) return;
  by_dtype(params.dtype, [&](auto type) { fwd<decltype(type)>(params); });
}

void bias_act_bwd(const BiasActBwdParams& params) {
  if (params.size == 0) return;
  by_dtype(params.dtype, [&](auto type) { bwd<decltype(type)>(params); });
}

}  // namespace fastgan::cpu
