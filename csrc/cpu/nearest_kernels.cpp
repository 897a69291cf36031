// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/nearest_kernels.h"

#include <cmath>
#include <limits>

#include "cpu/nearest_lanes.h"

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

// sum(q^2) over a chunk, exact.
int64_t squares_of(const int16_t* q) {
  using Wide = Lanes<uint64_t, kInts / 2>;
  Wide total = Wide{};
  for (int64_t i = 0; i < kNearestChunk; i += 2 * kInts) {
    Ints pair = Ints{};
    const Ints v = load_as<Ints>(q + i);
    multiply_add(pair, v, v);
    // 2 * 32768^2 has the top bit set: it is a number without sign
    alignas(64) uint32_t sums[kInts];
    std::memcpy(sums, &pair, sizeof(sums));
    using Half = Lanes<uint32_t, kInts / 2>;
    total += __builtin_convertvector(load_as<Half>(sums), Wide) +
             __builtin_convertvector(load_as<Half>(sums + kInts / 2), Wide);
  }
  return static_cast<int64_t>(sum_of<uint64_t, kInts / 2>(total));
}

// The largest of int16 that are not negative.
FASTGAN_INLINE inline int64_t largest_of(Lanes<int16_t, 2 * kInts> v) {
#if defined(__AVX2__)
#if defined(__AVX512BW__)
  // with a mask, as GCC 12 warns of its own header without
  const __m256i pair = _mm256_max_epi16(_mm512_maskz_extracti64x4_epi64(0xff, (__m512i)v, 0),
                                        _mm512_maskz_extracti64x4_epi64(0xff, (__m512i)v, 1));
#else
  const __m256i pair = (__m256i)v;
#endif
  const __m128i eight =
      _mm_max_epi16(_mm256_castsi256_si128(pair), _mm256_extracti128_si256(pair, 1));
  // there is an instruction for the smallest of eight numbers without sign
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(eight, _mm_set1_epi16(-1)));
  return 0xffff ^ (_mm_cvtsi128_si32(least) & 0xffff);
#else
  int64_t largest = 0;
  for (int i = 0; i < 2 * kInts; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
#endif
}

// Sum of numbers that are not negative.
FASTGAN_INLINE inline int64_t sum_of_ints(Ints v) {
  using Half = Lanes<int32_t, kInts / 2>;
  using Wide = Lanes<int64_t, kInts / 2>;
  Half half[2];
  std::memcpy(half, &v, sizeof(v));
  return sum_of<int64_t, kInts / 2>(__builtin_convertvector(half[0], Wide) +
                                    __builtin_convertvector(half[1], Wide));
}

template <class T>
NearestChunk copy_integers(const T* from, int64_t n, int16_t* q) {
  constexpr int W = 2 * kInts;
  using Shorts = Lanes<int16_t, W>;
  Shorts least = Shorts{}, most = Shorts{};
  Ints squares = Ints{};
  const auto step = [&](const T* at, int16_t* to) FASTGAN_INLINE {
    const Shorts v = __builtin_convertvector(load_as<Lanes<T, W>>(at), Shorts);
    std::memcpy(to, &v, sizeof(v));
    least = v < least ? v : least;
    most = v > most ? v : most;
    multiply_add(squares, (Ints)v, (Ints)v);
  };
  int64_t i = 0;
  for (; i + W <= n; i += W) step(from + i, q + i);
  if (i < n) {
    T rest[W] = {};
    std::memcpy(rest, from + i, static_cast<size_t>(n - i) * sizeof(T));
    step(rest, q + i);
    i += W;
  }
  if (i < kNearestChunk) std::memset(q + i, 0, static_cast<size_t>(kNearestChunk - i) * 2);
  // ~v = -v - 1 always fits
  const Shorts low = ~least;
  const int64_t largest = largest_of(most > low ? most : low) + 1;
  // a lane holds the squares of kNearestChunk / kInts numbers
  const bool fits =
      largest * largest * (kNearestChunk / kInts) <= std::numeric_limits<int32_t>::max();
  const int64_t sum = fits ? sum_of_ints(squares) : squares_of(q);
  return {1, static_cast<double>(sum), 0, largest, true};
}

// Chunks below this are dropped whole: their scale could not be inverted, nor bounds be squared.
template <class C>
constexpr C kSmallest = sizeof(C) == 4 ? C(1e-30) : C(1e-130);
// Rounding of (x - c) / scale, in steps: three roundings of a number of at most kNearestLevels.
template <class C>
constexpr double kStepError = 4.0 * kNearestLevels * (sizeof(C) == 4 ? 0x1p-24 : 0x1p-53);

template <class T>
NearestChunk quantise_floats(const T* from, const Compute<T>* center, int64_t n, int16_t* q) {
  using C = Compute<T>;
  constexpr int W = kVectorBytes / static_cast<int>(sizeof(C));
  using V = Lanes<C, W>;
  alignas(64) C value[kNearestChunk];
  V most = V{}, poison = V{};
  int64_t at = 0;
  for (; at + W <= n; at += W) {
    const V x = widen<C, W>(from + at), v = x - load_as<V>(center + at);
    std::memcpy(value + at, &v, sizeof(v));
    const V size = v < 0 ? -v : v;
    most = size > most ? size : most;
    poison += x * C(0);
  }
  C largest = 0, bad = sum_of<C, W>(poison);
  for (int i = 0; i < W; ++i) largest = most[i] > largest ? most[i] : largest;
  for (; at < n; ++at) {
    const C x = load(from[at]);
    value[at] = x - center[at];
    largest = std::fabs(value[at]) > largest ? std::fabs(value[at]) : largest;
    bad += x * C(0);
  }
  for (; at < kNearestChunk; ++at) value[at] = 0;
  const bool finite = bad == bad;
  const double length = std::sqrt(static_cast<double>(n));
  if (!finite || !(largest >= kSmallest<C>) || !(largest <= std::numeric_limits<C>::max())) {
    for (int64_t i = 0; i < kNearestChunk; ++i) q[i] = 0;
    const double most_lost = static_cast<double>(largest > kSmallest<C> ? largest : kSmallest<C>);
    return {0, 0, most_lost * length * (1 + 1e-6), 0, finite};
  }
  const C scale = largest / C(kNearestLevels), inverse = C(kNearestLevels) / largest;
  // Adding and taking off 1.5 * 2^(bits - 1) rounds to the nearest integer.
  constexpr C kRound = sizeof(C) == 4 ? C(0x1.8p23) : C(0x1.8p52);
  V residual[2] = {V{}, V{}};
  for (int64_t i = 0; i < kNearestChunk; i += 2 * W) {
    unrolled<2>([&]<int u>() FASTGAN_INLINE {
      const V v = load_as<V>(value + i + u * W) * inverse;
      const V whole = (v + kRound) - kRound;
      const V rest = v - whole;
      residual[u] += rest * rest;
      const auto narrow = __builtin_convertvector(__builtin_convertvector(whole, Lanes<int32_t, W>),
                                                  Lanes<int16_t, W>);
      std::memcpy(q + i + u * W, &narrow, sizeof(narrow));
    });
  }
  const double rest = sum_of<C, W>(residual[0] + residual[1]);
  const double steps = std::sqrt(rest) * (1 + 1e-5) + kStepError<C> * length;
  const double wide = static_cast<double>(scale);
  const double squares = wide * wide * static_cast<double>(squares_of(q));
  return {wide, squares, wide * steps, kNearestLevels, true};
}

template <class T>
NearestChunk quantise(const void* from, const void* center, int64_t n, int16_t* q) {
  if constexpr (std::is_integral_v<T>) {
    return copy_integers(static_cast<const T*>(from), n, q);
  } else {
    return quantise_floats(static_cast<const T*>(from), static_cast<const Compute<T>*>(center), n,
                           q);
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
