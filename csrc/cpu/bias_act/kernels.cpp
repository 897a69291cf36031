// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/bias_act/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/macros.h"

namespace fastgan::cpu {
namespace {

// Bit i is set where z[i] > 0, for i < 8.
uint8_t positive(const double* z) {
  int bits = 0;
  for (int i = 0; i < 8; ++i) bits |= (z[i] > 0 ? 1 : 0) << i;
  return static_cast<uint8_t>(bits);
}

uint8_t positive(const float* z) {
#if defined(__AVX2__)
  const __m256 above = _mm256_cmp_ps(_mm256_load_ps(z), _mm256_setzero_ps(), _CMP_GT_OQ);
  return static_cast<uint8_t>(_mm256_movemask_ps(above));
#elif defined(__x86_64__)
  const int low = _mm_movemask_ps(_mm_cmpgt_ps(_mm_load_ps(z), _mm_setzero_ps()));
  const int high = _mm_movemask_ps(_mm_cmpgt_ps(_mm_load_ps(z + 4), _mm_setzero_ps()));
  return static_cast<uint8_t>(low | high << 4);
#else
  int bits = 0;
  for (int i = 0; i < 8; ++i) bits |= (z[i] > 0 ? 1 : 0) << i;
  return static_cast<uint8_t>(bits);
#endif
}

template <class T>
void fwd(const T* __restrict__ x, const Compute<T>* __restrict__ bias, int64_t period, int64_t size,
         Compute<T> negative_slope, T* __restrict__ y, uint8_t* __restrict__ bits) {
  using A = Compute<T>;
  int64_t at = 0, i = 0;
  for (; i + 8 <= size; i += 8) {
    alignas(64) A z[8];
#pragma omp simd
    for (int k = 0; k < 8; ++k) z[k] = load(x[i + k]) + bias[at + k];
#pragma omp simd
    for (int k = 0; k < 8; ++k) store(y[i + k], z[k] * (z[k] > 0 ? A(1) : negative_slope));
    bits[i / 8] = positive(z);
    at = at + 8 == period ? 0 : at + 8;
  }
  if (i == size) return;
  alignas(64) A z[8] = {};
  for (int k = 0; i + k < size; ++k) {
    z[k] = load(x[i + k]) + bias[at + k];
    store(y[i + k], z[k] * (z[k] > 0 ? A(1) : negative_slope));
  }
  bits[i / 8] = positive(z);
}

template <class T>
void bwd(const T* __restrict__ g, const uint8_t* __restrict__ bits, int64_t size,
         Compute<T> negative_slope, T* __restrict__ d_x) {
  using A = Compute<T>;
  for (int64_t i = 0; i < size; i += 8) {
    const int byte = bits[i / 8];
    if (i + 8 <= size) {
#pragma omp simd
      for (int k = 0; k < 8; ++k) {
        store(d_x[i + k], load(g[i + k]) * ((byte & (1 << k)) != 0 ? A(1) : negative_slope));
      }
    } else {
      for (int k = 0; i + k < size; ++k) {
        store(d_x[i + k], load(g[i + k]) * ((byte & (1 << k)) != 0 ? A(1) : negative_slope));
      }
    }
  }
}

}  // namespace

namespace FASTGAN_ISA {

template <class T>
BiasActKernels<T> bias_act_kernels() {
  return {&fwd<T>, &bwd<T>};
}

template BiasActKernels<float> bias_act_kernels();
template BiasActKernels<BFloat16> bias_act_kernels();
template BiasActKernels<double> bias_act_kernels();

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
