// What the machine can do at most, for docs/nearest.md: products of int16 and of float32 in
// registers, and reading memory. All threads, the best of 7 rounds. AVX2 with FMA.
//
//   c++ -O3 -mavx2 -mfma -fopenmp bench/tools/bounds.cpp -o build/bounds && build/bounds
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr int kRounds = 7, kSums = 12;
constexpr int64_t kSteps = 20'000'000;
constexpr int64_t kBytes = int64_t{512} << 20;

// Seconds of the fastest round of body(), which every thread runs.
template <class Body>
double fastest(const Body& body) {
  double best = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    const double start = omp_get_wtime();
#pragma omp parallel
    body();
    best = std::min(best, omp_get_wtime() - start);
  }
  return best;
}

// Keeps a value in a register, and the compiler from knowing it.
template <class V>
void hide(V& value) {
  asm volatile("" : "+x"(value));
}

double int16_products(int threads) {
  const double seconds = fastest([] {
    __m256i sum[kSums] = {}, x = _mm256_set1_epi16(3), y = _mm256_set1_epi16(5);
    hide(x);
    hide(y);
    for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int i = 0; i < kSums; ++i) {
        sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(x, y));
        hide(x);
        hide(sum[i]);
      }
    }
  });
  return 16.0 * kSums * kSteps * threads / seconds;
}

double float32_products(int threads) {
  const double seconds = fastest([] {
    __m256 sum[kSums] = {}, x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
    hide(x);
    hide(y);
    for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int i = 0; i < kSums; ++i) {
        sum[i] = _mm256_fmadd_ps(x, y, sum[i]);
        hide(sum[i]);
      }
    }
  });
  return 8.0 * kSums * kSteps * threads / seconds;
}

double bytes_read(int threads) {
  const std::vector<char> memory(kBytes, 1);
  const int64_t share = kBytes / threads / 64 * 64;
  const double seconds = fastest([&] {
    const char* from = memory.data() + omp_get_thread_num() * share;
    __m256i sum[2] = {};
    for (int64_t at = 0; at < share; at += 64) {
      for (int i = 0; i < 2; ++i) {
        const auto* line = reinterpret_cast<const __m256i*>(from + at + 32 * i);
        sum[i] = _mm256_add_epi32(sum[i], _mm256_loadu_si256(line));
      }
    }
    hide(sum[0]);
    hide(sum[1]);
  });
  return static_cast<double>(share) * threads / seconds;
}

}  // namespace

int main() {
  const int threads = omp_get_max_threads();
  std::printf("%d threads, thousand million a second\n", threads);
  std::printf("int16 pairs multiplied and added    %6.1f\n", int16_products(threads) / 1e9);
  std::printf("float32 pairs multiplied and added  %6.1f\n", float32_products(threads) / 1e9);
  std::printf("bytes read                          %6.1f\n", bytes_read(threads) / 1e9);
}
