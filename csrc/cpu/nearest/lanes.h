// Vectors of the instruction set that a kernel file is compiled for.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/dtype.h"
#include "cpu/lanes.h"
#include "cpu/nearest/kernels.h"

namespace fastgan::cpu {
namespace {

template <class T, int W>
using Lanes [[gnu::vector_size(W * sizeof(T))]] = T;

constexpr int kDoubles = kVectorBytes / 8;  // lanes of float64
constexpr int kInts = kVectorBytes / 4;     // lanes of int32
using Doubles = Lanes<double, kDoubles>;
using Ints = Lanes<int32_t, kInts>;

// Calls body<0>() ... body<N - 1>(): unrolled before the compiler looks for registers, where a loop
// over an array of vectors leaves it in memory.
template <int N, class Body>
FASTGAN_INLINE inline void unrolled(const Body& body) {
  [&]<int... I>(std::integer_sequence<int, I...>) FASTGAN_INLINE {
    (body.template operator()<I>(), ...);
  }(std::make_integer_sequence<int, N>{});
}

template <class V, class T>
FASTGAN_INLINE inline V load_as(const T* from) {
  V out;
  std::memcpy(&out, from, sizeof(V));
  return out;
}

// W values of a storage type as float64 or float32.
template <class C, int W, class T>
FASTGAN_INLINE inline Lanes<C, W> widen(const T* from) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const auto bits = load_as<Lanes<uint16_t, W>>(from);
    const auto wide = __builtin_convertvector(bits, Lanes<uint32_t, W>) << 16;
    Lanes<float, W> value;
    std::memcpy(&value, &wide, sizeof(value));
    return __builtin_convertvector(value, Lanes<C, W>);
  } else if constexpr (std::is_same_v<T, Float16>) {
    Lanes<float, W> value;
    unrolled<W>([&]<int i>() FASTGAN_INLINE { value[i] = load(from[i]); });
    return __builtin_convertvector(value, Lanes<C, W>);
  } else if constexpr (std::is_integral_v<T>) {
    const auto wide = __builtin_convertvector(load_as<Lanes<T, W>>(from), Lanes<int32_t, W>);
    return __builtin_convertvector(wide, Lanes<C, W>);
  } else {
    return __builtin_convertvector(load_as<Lanes<T, W>>(from), Lanes<C, W>);
  }
}

template <class C, int W>
FASTGAN_INLINE inline C sum_of(Lanes<C, W> v) {
  C sum = 0;
  for (int i = 0; i < W; ++i) sum += v[i];
  return sum;
}

// Asks for lines [begin, end) of what is needed soon, counted in turns over its rows.
FASTGAN_INLINE inline void ask_for(const NearestAhead& ahead, int64_t begin, int64_t end) {
  if (end > ahead.size()) end = ahead.size();
  if (begin >= end) return;
  int64_t row = static_cast<uint32_t>(begin) % static_cast<uint32_t>(ahead.rows);
  const char* at =
      ahead.from + static_cast<uint32_t>(begin) / static_cast<uint32_t>(ahead.rows) * kNearestLine;
  for (; begin < end; ++begin) {
    __builtin_prefetch(at + row * ahead.pitch, 0, 2);
    if (++row == ahead.rows) {
      row = 0;
      at += kNearestLine;
    }
  }
}

// acc += the sums of two neighbouring products of int16, in int32. The barrier keeps the compiler
// from copying sums between registers and spilling them.
FASTGAN_INLINE inline void multiply_add(Ints& acc, Ints x, Ints y) {
#if defined(__AVX512VNNI__)
  acc = (Ints)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)x, (__m512i)y);
  asm("" : "+v"(acc));
#elif defined(__AVX512BW__)
  acc += (Ints)_mm512_madd_epi16((__m512i)x, (__m512i)y);
  asm("" : "+v"(acc));
#elif defined(__AVX2__)
  acc += (Ints)_mm256_madd_epi16((__m256i)x, (__m256i)y);
  asm("" : "+x"(acc));
#elif defined(__SSE2__)
  acc += (Ints)_mm_madd_epi16((__m128i)x, (__m128i)y);
  asm("" : "+x"(acc));
#else
  Lanes<int16_t, 2 * kInts> a, b;
  std::memcpy(&a, &x, sizeof(a));
  std::memcpy(&b, &y, sizeof(b));
  for (int i = 0; i < kInts; ++i) acc[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
#endif
}

}  // namespace
}  // namespace fastgan::cpu
