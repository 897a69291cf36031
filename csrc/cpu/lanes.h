// The vectors of the instruction set that a kernel file is compiled for. Internal linkage: see
// FASTGAN_FORMULA.
#pragma once

namespace fastgan::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

}  // namespace
}  // namespace fastgan::cpu

// Of a function whose call would force vectors into memory.
#define FASTGAN_INLINE __attribute__((always_inline))
