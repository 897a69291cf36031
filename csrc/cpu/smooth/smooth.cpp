#include "cpu/smooth/smooth.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fastgan::cpu {
namespace {

// A thread's smallest share: 128 KB of float32, as in norm_act.
constexpr int64_t kShare = 32768;

template <class A>
A filtered(A before, A here, A after) {
  return A(0.5) * here + A(0.25) * (before + after);
}

// One plane [H, W, C] of outputs. plane [H, W, C] and row [W + 2, C] are scratch.
template <class T>
void plane_of(const SmoothParams& p, const T* before, const T* here, const T* after,
              Compute<T>* plane, Compute<T>* row, T* y) {
  using A = Compute<T>;
  const int64_t H = p.size[1], C = p.C, width = p.size[2] * C;
#pragma omp simd
  for (int64_t i = 0; i < H * width; ++i) {
    plane[i] = filtered<A>(load(before[i]), load(here[i]), load(after[i]));
  }
  for (int64_t h = 0; h < H; ++h, y += width) {
    const A* middle = plane + h * width;
    const A* above = h == 0 ? middle : middle - width;
    const A* below = h == H - 1 ? middle : middle + width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) row[C + i] = filtered(above[i], middle[i], below[i]);
    std::copy_n(row + C, C, row);
    std::copy_n(row + width, C, row + width + C);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      store(y[i], filtered(row[i], row[C + i], row[2 * C + i]));
    }
  }
}

template <class T>
void smooth_of(const SmoothParams& p) {
  const int64_t D = p.size[0], planes = p.B * D, size = p.size[1] * p.size[2] * p.C;
  const int64_t share = planes * size / kShare;
  const int threads = static_cast<int>(std::clamp<int64_t>(share, 1, std::max(p.threads, 1)));
  const T* x = static_cast<const T*>(p.x);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    std::vector<Compute<T>> plane(static_cast<size_t>(size));
    std::vector<Compute<T>> row(static_cast<size_t>((p.size[2] + 2) * p.C));
#pragma omp for schedule(static)
    for (int64_t i = 0; i < planes; ++i) {
      const int64_t d = i % D;
      const T* here = x + i * size;
      plane_of<T>(p, d == 0 ? here : here - size, here, d == D - 1 ? here : here + size,
                  plane.data(), row.data(), static_cast<T*>(p.y) + i * size);
    }
  }
}

}  // namespace

void smooth(const SmoothParams& params) {
  by_dtype(params.dtype, [&](auto type) { smooth_of<decltype(type)>(params); });
}

}  // namespace fastgan::cpu
