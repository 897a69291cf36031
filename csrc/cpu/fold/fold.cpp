#include "cpu/fold/fold.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace fastgan::cpu {
namespace {

// A thread's smallest share: 128 KB, as in norm_act.
constexpr int64_t kShare = 131072;

// Copies `count` runs of N bytes, or of `bytes` where N is 0.
template <int N>
void copy_runs(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t count,
               int64_t bytes) {
  for (int64_t i = 0; i < count; ++i, from += from_step, to += to_step) {
    std::memcpy(to, from, N == 0 ? static_cast<size_t>(bytes) : N);
  }
}

using CopyRuns = void (*)(const char*, int64_t, char*, int64_t, int64_t, int64_t);

// Sizes that a register holds need no call for each run.
CopyRuns copy_of(int64_t bytes) {
  switch (bytes) {
    case 2:
      return &copy_runs<2>;
    case 4:
      return &copy_runs<4>;
    case 8:
      return &copy_runs<8>;
    case 16:
      return &copy_runs<16>;
    case 32:
      return &copy_runs<32>;
    default:
      return &copy_runs<0>;
  }
}

// What is side by side in both volumes: the f2 C elements of one row of a block.
template <bool kFold>
void permute(const FoldParams& p) {
  const int64_t run = p.factor[2] * p.C * p.width, block = p.factor[0] * p.factor[1] * run;
  const int64_t rows = p.B * p.size[0] * p.size[1], row = p.size[2] * run;
  const CopyRuns copy = copy_of(run);
  const int64_t share = rows * p.size[2] * block / kShare;
  const int threads = static_cast<int>(std::clamp<int64_t>(share, 1, std::max(p.threads, 1)));
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t h = i % p.size[1], plane = i / p.size[1];
    for (int64_t f0 = 0; f0 < p.factor[0]; ++f0) {
      for (int64_t f1 = 0; f1 < p.factor[1]; ++f1) {
        const int64_t deep = i * p.size[2] * block + (f0 * p.factor[1] + f1) * run;
        const int64_t wide_plane = plane * p.factor[0] + f0;
        const int64_t wide = ((wide_plane * p.size[1] + h) * p.factor[1] + f1) * row;
        const char* from = static_cast<const char*>(p.from) + (kFold ? wide : deep);
        char* to = static_cast<char*>(p.to) + (kFold ? deep : wide);
        copy(from, kFold ? run : block, to, kFold ? block : run, p.size[2], run);
      }
    }
  }
}

}  // namespace

void fold(const FoldParams& params) { permute<true>(params); }

void unfold(const FoldParams& params) { permute<false>(params); }

}  // namespace fastgan::cpu
