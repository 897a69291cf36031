// Dot products of int16 rows, compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or
// avx512. Two neighbouring features of a row are one 32-bit lane: a product instruction multiplies
// and adds both. Lanes of a vector are targets, so no sum is ever taken across lanes.
#include "cpu/nearest_kernels.h"
#include "cpu/nearest_lanes.h"

namespace fastgan::cpu {
namespace {

constexpr int R = kNearestTileRows;
constexpr int64_t kPairs = kNearestChunk / 2;

// to [pair, row] with `stride` lanes a pair = rows [row][pair], for `count` rows.
#if !defined(__SSE2__)
void interleave(const int16_t* const* rows, int count, int16_t* to, int64_t stride) {
  for (int64_t p = 0; p < kPairs; ++p) {
    for (int row = 0; row < count; ++row) {
      std::memcpy(to + 2 * (p * stride + row), rows[row] + 2 * p, sizeof(int32_t));
    }
  }
}
#else
// The same for four rows, by 4 x 4 transpositions.
void interleave_4(const int16_t* const* rows, int16_t* to, int64_t stride) {
  for (int64_t p = 0; p < kPairs; p += 4) {
    const auto row = [&](int i) FASTGAN_INLINE {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + 2 * p));
    };
    const __m128i a = row(0), b = row(1), c = row(2), d = row(3);
    const __m128i ab0 = _mm_unpacklo_epi32(a, b), ab1 = _mm_unpackhi_epi32(a, b);
    const __m128i cd0 = _mm_unpacklo_epi32(c, d), cd1 = _mm_unpackhi_epi32(c, d);
    const auto put = [&](int i, __m128i v) FASTGAN_INLINE {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * (p + i) * stride), v);
    };
    put(0, _mm_unpacklo_epi64(ab0, cd0));
    put(1, _mm_unpackhi_epi64(ab0, cd0));
    put(2, _mm_unpacklo_epi64(ab1, cd1));
    put(3, _mm_unpackhi_epi64(ab1, cd1));
  }
}
#endif

#if defined(__AVX2__)
// The same for eight rows.
void interleave_8(const int16_t* const* rows, int16_t* to, int64_t stride) {
  for (int64_t p = 0; p < kPairs; p += 8) {
    __m256i r[8], s[8];
    unrolled<8>([&]<int i>() FASTGAN_INLINE {
      r[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i] + 2 * p));
    });
    unrolled<4>([&]<int i>() FASTGAN_INLINE {
      s[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
      s[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    });
    unrolled<2>([&]<int h>() FASTGAN_INLINE {
      r[4 * h] = _mm256_unpacklo_epi64(s[4 * h], s[4 * h + 2]);
      r[4 * h + 1] = _mm256_unpackhi_epi64(s[4 * h], s[4 * h + 2]);
      r[4 * h + 2] = _mm256_unpacklo_epi64(s[4 * h + 1], s[4 * h + 3]);
      r[4 * h + 3] = _mm256_unpackhi_epi64(s[4 * h + 1], s[4 * h + 3]);
    });
    unrolled<4>([&]<int i>() FASTGAN_INLINE {
      const auto put = [&](int64_t pair, __m256i v) FASTGAN_INLINE {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * pair * stride), v);
      };
      put(p + i, _mm256_permute2x128_si256(r[i], r[4 + i], 0x20));
      put(p + 4 + i, _mm256_permute2x128_si256(r[i], r[4 + i], 0x31));
    });
  }
}
#endif

void pack_queries(const int16_t* const* rows, int16_t* panel) {
#if defined(__SSE2__)
  static_assert(R == 4);
  interleave_4(rows, panel, R);
#else
  interleave(rows, R, panel, R);
#endif
}

void pack_targets(const int16_t* const* rows, int64_t vectors, int16_t* panel) {
  const int64_t width = vectors * kInts;
#if defined(__AVX2__)
  for (int64_t i = 0; i < width; i += 8) interleave_8(rows + i, panel + 2 * i, width);
#elif defined(__SSE2__)
  for (int64_t i = 0; i < width; i += 4) interleave_4(rows + i, panel + 2 * i, width);
#else
  interleave(rows, static_cast<int>(width), panel, width);
#endif
}

// A tile: R queries by V vectors of targets, all sums in registers over the features.
template <int V>
void tile_of(const int16_t* queries, const int16_t* targets, int64_t begin, int64_t end,
             const double* query_scale, const double* target_scale, double* acc) {
  constexpr int64_t kWidth = V * kInts;
  Ints sum[R * V];
  unrolled<R * V>([&]<int i>() FASTGAN_INLINE { sum[i] = Ints{}; });
  const int16_t* x = queries + 2 * R * begin;
  const int16_t* y = targets + 2 * kWidth * begin;
  for (const int16_t* stop = queries + 2 * R * end; x != stop; x += 4 * R, y += 4 * kWidth) {
    unrolled<2>([&]<int u>() FASTGAN_INLINE {
      Ints column[V];
      unrolled<V>([&]<int v>() FASTGAN_INLINE {
        column[v] = load_as<Ints>(y + 2 * (u * kWidth + v * kInts));
      });
      unrolled<R>([&]<int r>() FASTGAN_INLINE {
        const Ints row = spread(x + 2 * (u * R + r));
        unrolled<V>([&]<int v>() FASTGAN_INLINE { multiply_add(sum[r * V + v], row, column[v]); });
      });
    });
  }
  constexpr int kHalf = kInts / 2;
  static_assert(kHalf == kDoubles);
  unrolled<R * V>([&]<int i>() FASTGAN_INLINE {
    alignas(64) int32_t dots[kInts];
    std::memcpy(dots, &sum[i], sizeof(dots));
    double* to = acc + i / V * kWidth + i % V * kInts;
    unrolled<2>([&]<int h>() FASTGAN_INLINE {
      const Doubles dot =
          __builtin_convertvector(load_as<Lanes<int32_t, kHalf>>(dots + h * kHalf), Doubles);
      const Doubles scale = load_as<Doubles>(target_scale + i % V * kInts + h * kHalf);
      const Doubles total = load_as<Doubles>(to + h * kHalf) + dot * (scale * query_scale[i / V]);
      std::memcpy(to + h * kHalf, &total, sizeof(total));
    });
  });
}

void tile(const int16_t* queries, const int16_t* targets, int64_t vectors, int64_t begin,
          int64_t end, const double* query_scale, const double* target_scale, double* acc) {
  static_assert(kNearestTileVectors == 3);
  auto* run = vectors == 3 ? &tile_of<3> : vectors == 2 ? &tile_of<2> : &tile_of<1>;
  run(queries, targets, begin, end, query_scale, target_scale, acc);
}

// Sums of at most 64 squares in float32, a chunk's sums in float64.
double coarse(const float* x, const float* y, int64_t n) {
  using Floats = Lanes<float, kInts>;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kNearestChunk) {
    const int64_t end = n - begin < kNearestChunk ? n : begin + kNearestChunk;
    Floats acc[2] = {Floats{}, Floats{}};
    int64_t i = begin;
    for (; i + 2 * kInts <= end; i += 2 * kInts) {
      unrolled<2>([&]<int u>() FASTGAN_INLINE {
        const Floats d = load_as<Floats>(x + i + u * kInts) - load_as<Floats>(y + i + u * kInts);
        acc[u] += d * d;
      });
    }
    for (; i < end; ++i) total += static_cast<double>((x[i] - y[i]) * (x[i] - y[i]));
    total += static_cast<double>(sum_of<float, kInts>(acc[0] + acc[1]));
  }
  return total;
}

uint64_t within(const double* dots, const double* squares, int64_t n, double limit) {
  using Mask = Lanes<int64_t, kDoubles>;
  Mask any = Mask{};
  int64_t i = 0;
  for (; i + kDoubles <= n; i += kDoubles) {
    const Doubles left = load_as<Doubles>(squares + i) - 2 * load_as<Doubles>(dots + i);
    any |= ~(left > limit);
  }
  bool found = i < n;
  for (int lane = 0; lane < kDoubles; ++lane) found |= any[lane] != 0;
  if (!found) return 0;
  uint64_t bits = 0;
  for (i = 0; i < n; ++i) bits |= uint64_t{!(squares[i] - 2 * dots[i] > limit)} << i;
  return bits;
}

}  // namespace

namespace FASTGAN_ISA {

NearestDotKernels nearest_dot_kernels() {
  return {kInts, &pack_queries, &pack_targets, &tile, &coarse, &within};
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
