// Rows rounded to int16, included by kernel files: everything has internal linkage.
#pragma once

#include <cmath>
#include <limits>

#include "cpu/nearest/kernels.h"
#include "cpu/nearest/lanes.h"

namespace fastgan::cpu {
namespace {

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

// Copies R integer rows, `pitch` apart: memory delivers them faster together than one by one. Asks
// for R lines of `ahead` from number `line` on for every line that is copied.
template <class T, int R>
void copy_integers(const T* from, int64_t pitch, int64_t n, int16_t* q, NearestChunk* chunks,
                   const NearestAhead& ahead, int64_t line) {
  constexpr int W = 2 * kInts;
  using Shorts = Lanes<int16_t, W>;
  Shorts least = Shorts{}, most = Shorts{};
  Ints squares[R];
  unrolled<R>([&]<int r>() FASTGAN_INLINE { squares[r] = Ints{}; });
  const auto step = [&](const T* at, int64_t apart, int16_t* to) FASTGAN_INLINE {
    unrolled<R>([&]<int r>() FASTGAN_INLINE {
      const Shorts v = __builtin_convertvector(load_as<Lanes<T, W>>(at + r * apart), Shorts);
      std::memcpy(to + r * kNearestChunk, &v, sizeof(v));
      least = v < least ? v : least;
      most = v > most ? v : most;
      multiply_add(squares[r], (Ints)v, (Ints)v);
    });
  };
  constexpr int64_t kSpan = kNearestLine / static_cast<int64_t>(sizeof(T));
  int64_t i = 0;
  for (; i + kSpan <= n; line += R) {
    ask_for(ahead, line, line + R);
    for (int64_t end = i + kSpan; i < end; i += W) step(from + i, pitch, q + i);
  }
  for (; i + W <= n; i += W) step(from + i, pitch, q + i);
  if (i < n) {
    T rest[R * W] = {};
    for (int r = 0; r < R; ++r) {
      std::memcpy(rest + r * W, from + r * pitch + i, static_cast<size_t>(n - i) * sizeof(T));
    }
    step(rest, W, q + i);
    i += W;
  }
  // ~v = -v - 1 always fits
  const Shorts low = ~least;
  const int64_t largest = largest_of(most > low ? most : low) + 1;
  // a lane holds the squares of kNearestChunk / kInts numbers
  const bool fits =
      largest * largest * (kNearestChunk / kInts) <= std::numeric_limits<int32_t>::max();
  unrolled<R>([&]<int r>() FASTGAN_INLINE {
    int16_t* row = q + r * kNearestChunk;
    if (i < kNearestChunk) std::memset(row + i, 0, static_cast<size_t>(kNearestChunk - i) * 2);
    const int64_t sum = fits ? sum_of_ints(squares[r]) : squares_of(row);
    chunks[r] = {1, static_cast<double>(sum), 0, largest, true};
  });
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
void quantise(const void* from, int64_t rows, int64_t pitch, const void* center, int64_t n,
              int16_t* q, NearestChunk* chunks, const NearestAhead& ahead) {
  const T* row = static_cast<const T*>(from);
  const int64_t lines = n * static_cast<int64_t>(sizeof(T)) / kNearestLine;
  int64_t r = 0;
  if constexpr (std::is_integral_v<T>) {
    for (; r + 4 <= rows; r += 4) {
      copy_integers<T, 4>(row + r * pitch, pitch, n, q + r * kNearestChunk, chunks + r, ahead,
                          r * lines);
    }
  }
  for (; r < rows; ++r) {
    int16_t* to = q + r * kNearestChunk;
    if constexpr (std::is_integral_v<T>) {
      copy_integers<T, 1>(row + r * pitch, pitch, n, to, chunks + r, ahead, r * lines);
    } else {
      ask_for(ahead, r * lines, (r + 1) * lines);
      chunks[r] = quantise_floats(row + r * pitch, static_cast<const Compute<T>*>(center), n, to);
    }
  }
}

}  // namespace
}  // namespace fastgan::cpu
