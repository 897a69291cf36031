// Stores that go around the caches, for outputs too large to be found there again. A plain store
// reads its cache line first, so that a copy moves three bytes for two.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/macros.h"

namespace fastgan::cpu {

// Whether outputs of so many bytes leave the last cache before anyone reads them.
bool exceeds_cache(int64_t bytes);

// Copies N bytes, a multiple of 16, to an address that is a multiple of N or of 64.
template <int N>
FASTGAN_FORMULA void stream(void* to, const void* from) {
#if defined(__AVX512F__)
  constexpr int kBytes = N % 64 == 0 ? 64 : 16;
#elif defined(__AVX2__)
  constexpr int kBytes = N % 32 == 0 ? 32 : 16;
#else
  constexpr int kBytes = 16;
#endif
  char* out = static_cast<char*>(to);
  const char* in = static_cast<const char*>(from);
  for (int i = 0; i < N; i += kBytes) {
#if defined(__x86_64__)
    if constexpr (kBytes == 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(out + i),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i)));
    }
#if defined(__AVX2__)
    if constexpr (kBytes == 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(out + i),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i)));
    }
#endif
#if defined(__AVX512F__)
    if constexpr (kBytes == 64) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i),
                          _mm512_loadu_si512(reinterpret_cast<const void*>(in + i)));
    }
#endif
#else
    __builtin_memcpy(out + i, in + i, kBytes);
#endif
  }
}

// Orders streamed stores before whatever tells another thread of them.
FASTGAN_FORMULA void finish_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace fastgan::cpu
