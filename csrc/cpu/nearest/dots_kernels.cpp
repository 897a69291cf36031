// Dot products of int16 rows, compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or
// avx512. Lanes of a vector are features, as they lie in memory: a product instruction multiplies
// two neighbours and adds them, and lanes are added once a range.
#include "cpu/nearest/kernels.h"
#include "cpu/nearest/lanes.h"

namespace fastgan::cpu {
namespace {

constexpr int T = kNearestTileTargets;
constexpr int64_t kShorts = 2 * kInts;  // int16 of a vector
constexpr int64_t kBlock = 16;          // targets that stay in half the first-level cache
static_assert(kNearestVector % kShorts == 0 && kNearestPanel % T == 0 && kNearestPanel <= 64);

// acc += the products of y with a row in memory.
FASTGAN_INLINE inline void multiply_add_row(Ints& acc, const int16_t* x, Ints y) {
#if defined(__AVX2__) && !defined(__AVX512BW__)
  // The compiler would keep the row in a register, for which there is none.
  Ints product;
  asm("vpmaddwd %2, %1, %0" : "=x"(product) : "x"(y), "m"(*reinterpret_cast<const Ints*>(x)));
  acc += product;
  asm("" : "+x"(acc));
#else
  multiply_add(acc, load_as<Ints>(x), y);
#endif
}

// to [T] = the sums of the lanes of four vectors. Only kNearestLanes of them may be added in 32
// bits.
FASTGAN_INLINE inline void lane_sums(Ints a, Ints b, Ints c, Ints d, double* to) {
#if defined(__AVX2__)
  static_assert(kNearestLanes == 4);
#if defined(__AVX512BW__)
  const auto eight = [](Ints v) FASTGAN_INLINE {
    // with a mask, as GCC 12 warns of its own header without
    return _mm256_add_epi32(_mm512_maskz_extracti64x4_epi64(0xff, (__m512i)v, 0),
                            _mm512_maskz_extracti64x4_epi64(0xff, (__m512i)v, 1));
  };
#else
  const auto eight = [](Ints v) FASTGAN_INLINE { return (__m256i)v; };
#endif
  // of every half of a vector, lanes 0 + 2 and 1 + 3
  const auto pair = [](__m256i x, __m256i y) FASTGAN_INLINE {
    return _mm256_add_epi32(_mm256_unpacklo_epi32(x, y), _mm256_unpackhi_epi32(x, y));
  };
  const auto halves = [](__m256i v) FASTGAN_INLINE {
    return _mm256_add_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(v)),
                         _mm256_cvtepi32_pd(_mm256_extracti128_si256(v, 1)));
  };
  const __m256i ab = pair(eight(a), eight(b)), cd = pair(eight(c), eight(d));
  _mm256_store_pd(to, _mm256_add_pd(halves(_mm256_unpacklo_epi64(ab, cd)),
                                    halves(_mm256_unpackhi_epi64(ab, cd))));
#else
  const Ints v[T] = {a, b, c, d};
  for (int t = 0; t < T; ++t) {
    to[t] = 0;
    for (int i = 0; i < kInts; ++i) to[t] += v[t][i];
  }
#endif
}

// A tile: Q queries by T targets, all sums in registers over the features.
template <int Q>
void tile(const int16_t* x, const int16_t* y, int64_t begin, int64_t end, const double* query_scale,
          const double* target_scale, double* sums, int64_t stride) {
  // of the queries, as many as there are registers for
  constexpr int kKept = Q < 3 ? Q : 2;
  Ints sum[Q * T];
  unrolled<Q * T>([&]<int i>() FASTGAN_INLINE { sum[i] = Ints{}; });
  for (int64_t f = begin; f < end; f += kShorts) {
    Ints row[kKept];
    unrolled<kKept>([&]<int q>()
                        FASTGAN_INLINE { row[q] = load_as<Ints>(x + q * kNearestChunk + f); });
    unrolled<T>([&]<int t>() FASTGAN_INLINE {
      const Ints column = load_as<Ints>(y + t * kNearestChunk + f);
      unrolled<kKept>([&]<int q>()
                          FASTGAN_INLINE { multiply_add(sum[q * T + t], row[q], column); });
      if constexpr (kKept < Q) {
        multiply_add_row(sum[kKept * T + t], x + kKept * kNearestChunk + f, column);
      }
    });
  }
  constexpr int W = T < kDoubles ? T : kDoubles;
  using Sums = Lanes<double, W>;
  unrolled<Q>([&]<int q>() FASTGAN_INLINE {
    alignas(32) double dot[T];
    lane_sums(sum[q * T], sum[q * T + 1], sum[q * T + 2], sum[q * T + 3], dot);
    unrolled<T / W>([&]<int i>() FASTGAN_INLINE {
      const Sums scale = load_as<Sums>(target_scale + i * W) * query_scale[q];
      double* to = sums + q * stride + i * W;
      const Sums total = load_as<Sums>(to) + load_as<Sums>(dot + i * W) * scale;
      std::memcpy(to, &total, sizeof(total));
    });
  });
}

void multiply(const int16_t* x, int64_t queries, const int16_t* y, int64_t targets, int64_t begin,
              int64_t end, const double* query_scale, const double* target_scale, double* sums,
              int64_t stride, const NearestAhead& ahead) {
  static_assert(kNearestTileQueries == 3);
  const int64_t tiles = (queries + kNearestTileQueries - 1) / kNearestTileQueries * (targets / T);
  const int64_t share = (ahead.size() + tiles - 1) / tiles;
  int64_t line = 0;
  for (int64_t first = 0; first < targets; first += kBlock) {
    const int64_t last = first + kBlock < targets ? first + kBlock : targets;
    for (int64_t q = 0; q < queries; q += kNearestTileQueries) {
      const int64_t left = queries - q;
      auto* run = left >= 3 ? &tile<3> : left == 2 ? &tile<2> : &tile<1>;
      for (int64_t t = first; t < last; t += T, line += share) {
        ask_for(ahead, line, line + share);
        run(x + q * kNearestChunk, y + t * kNearestChunk, begin, end, query_scale + q,
            target_scale + t, sums + q * stride + t, stride);
      }
    }
  }
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
  uint64_t bits = 0;
  for (int64_t i = 0; i < n; i += kDoubles) {
    const Doubles left = load_as<Doubles>(squares + i) - 2 * load_as<Doubles>(dots + i);
    const Mask near = ~(left > limit);
#if defined(__AVX512BW__)
    bits |= uint64_t{_mm512_movepi64_mask((__m512i)near)} << i;
#elif defined(__AVX2__)
    bits |= static_cast<uint64_t>(_mm256_movemask_pd((__m256d)near)) << i;
#else
    for (int lane = 0; lane < kDoubles; ++lane) bits |= uint64_t{near[lane] != 0} << (i + lane);
#endif
  }
  return bits & (~uint64_t{0} >> (64 - n));
}

}  // namespace

namespace FASTGAN_ISA {

NearestDotKernels nearest_dot_kernels() { return {&multiply, &coarse, &within}; }

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
