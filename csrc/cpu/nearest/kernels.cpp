// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/nearest/kernels.h"

#include <cmath>

#include "cpu/nearest/round.h"

namespace fastgan::cpu {
namespace {

template <class T>
void to_double(const void* row, int64_t n, double* to) {
  const T* from = static_cast<const T*>(row);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_integral_v<T>) {
      to[i] = from[i];
    } else {
      to[i] = load(from[i]);
    }
  }
  for (int64_t i = n; i < kNearestChunk; ++i) to[i] = 0;
}

// Two vectors of sums for each query: enough independent additions to hide their latency.
template <class T, int Q>
void direct_tile(const double* x, const T* y, int64_t n, double* sums, int64_t stride) {
  constexpr int W = kDoubles;
  Doubles acc[2 * Q];
  unrolled<2 * Q>([&]<int i>() FASTGAN_INLINE { acc[i] = Doubles{}; });
  const auto step = [&](const T* from, int64_t at) FASTGAN_INLINE {
    const Doubles y0 = widen<double, W>(from), y1 = widen<double, W>(from + W);
    unrolled<Q>([&]<int q>() FASTGAN_INLINE {
      const Doubles d0 = load_as<Doubles>(x + q * kNearestChunk + at) - y0;
      const Doubles d1 = load_as<Doubles>(x + q * kNearestChunk + at + W) - y1;
      acc[2 * q] += d0 * d0;
      acc[2 * q + 1] += d1 * d1;
    });
  };
  int64_t at = 0;
  for (; at + 2 * W <= n; at += 2 * W) step(y + at, at);
  if (at < n) {
    T rest[2 * W] = {};
    std::memcpy(rest, y + at, static_cast<size_t>(n - at) * sizeof(T));
    step(rest, at);
  }
  unrolled<Q>([&]<int q>() FASTGAN_INLINE {
    sums[q * stride] += sum_of<double, W>(acc[2 * q] + acc[2 * q + 1]);
  });
}

template <class T>
void direct(const double* x, int64_t queries, const void* row, int64_t n, double* sums,
            int64_t stride) {
  const T* y = static_cast<const T*>(row);
  int64_t q = 0;
  for (; q + 4 <= queries; q += 4) {
    direct_tile<T, 4>(x + q * kNearestChunk, y, n, sums + q * stride, stride);
  }
  for (; q < queries; ++q) {
    direct_tile<T, 1>(x + q * kNearestChunk, y, n, sums + q * stride, stride);
  }
}

template <class T>
void mean(const void* from, int64_t rows, int64_t pitch, int64_t n, void* center) {
  if constexpr (!std::is_integral_v<T>) {
    using C = Compute<T>;
    const T* row = static_cast<const T*>(from);
    C* to = static_cast<C*>(center);
    for (int64_t i = 0; i < n; ++i) to[i] = 0;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < n; ++i) to[i] += load(row[r * pitch + i]);
    }
    for (int64_t i = 0; i < n; ++i) {
      to[i] = std::isfinite(to[i]) ? to[i] / static_cast<C>(rows) : C(0);
    }
  }
}

template <class T>
void moments(const void* from, int64_t n, double* sums, double* squares) {
  const T* row = static_cast<const T*>(from);
  const auto add = [&](const auto& value, int64_t i) FASTGAN_INLINE {
    using V = std::decay_t<decltype(value)>;
    const V sum = load_as<V>(sums + i) + value, square = load_as<V>(squares + i) + value * value;
    std::memcpy(sums + i, &sum, sizeof(sum));
    std::memcpy(squares + i, &square, sizeof(square));
  };
  int64_t i = 0;
  for (; i + kDoubles <= n; i += kDoubles) add(widen<double, kDoubles>(row + i), i);
  for (; i < n; ++i) {
    if constexpr (std::is_integral_v<T>) {
      add(static_cast<double>(row[i]), i);
    } else {
      add(static_cast<double>(load(row[i])), i);
    }
  }
}

template <class T>
bool finite(const void* from, int64_t n) {
  if constexpr (!std::is_integral_v<T>) {
    using C = Compute<T>;
    constexpr int W = kVectorBytes / static_cast<int>(sizeof(C));
    const T* row = static_cast<const T*>(from);
    Lanes<C, W> poison = Lanes<C, W>{};
    int64_t i = 0;
    for (; i + W <= n; i += W) poison += widen<C, W>(row + i) * C(0);
    C bad = sum_of<C, W>(poison);
    for (; i < n; ++i) bad += load(row[i]) * C(0);
    return bad == bad;
  }
  return true;
}

template <class T>
NearestKernels kernels() {
  constexpr bool kExact = std::is_integral_v<T>;
  int64_t center = 0;
  if constexpr (!kExact) center = sizeof(Compute<T>);
  return {kExact,       sizeof(T), center,      &to_double<T>, &direct<T>,
          &quantise<T>, &mean<T>,  &moments<T>, &finite<T>};
}

}  // namespace

namespace FASTGAN_ISA {

NearestKernels nearest_kernels(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBFloat16:
      return kernels<BFloat16>();
    case Dtype::kFloat16:
      return kernels<Float16>();
    case Dtype::kFloat64:
      return kernels<double>();
    case Dtype::kInt16:
      return kernels<int16_t>();
    case Dtype::kInt8:
      return kernels<int8_t>();
    case Dtype::kUInt8:
      return kernels<uint8_t>();
    default:
      return kernels<float>();
  }
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
