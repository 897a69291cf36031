// 16 float32 side by side in the vectors of the instruction set that a kernel file is compiled for.
// Internal linkage: see FASTGAN_FORMULA.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/lanes.h"

namespace fastgan::cpu {
namespace {

// 16 float32 in as many registers as the level needs. Loops over registers are unrolled by hand:
// they must be gone before the compiler decides what lives in memory.
struct Lanes {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef float Anywhere __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  static constexpr int kWidth = 16;
  static constexpr int kVectors = 4 * kWidth / kVectorBytes;
  Vector part[kVectors];

  FASTGAN_INLINE void add_product(const Lanes& a, float b) {
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) part[i] += a.part[i] * b;
  }
};

FASTGAN_INLINE inline Lanes read(const float* from) {
  Lanes out;
#pragma GCC unroll 16
  for (int i = 0; i < Lanes::kVectors; ++i) {
    out.part[i] = reinterpret_cast<const Lanes::Anywhere*>(from)[i];
  }
  return out;
}

FASTGAN_INLINE inline Lanes read(const BFloat16* from) {
  float wide[Lanes::kWidth];
#pragma omp simd
  for (int i = 0; i < Lanes::kWidth; ++i) wide[i] = load(from[i]);
  return read(wide);
}

FASTGAN_INLINE inline void write(float* to, const Lanes& from) {
#pragma GCC unroll 16
  for (int i = 0; i < Lanes::kVectors; ++i) {
    reinterpret_cast<Lanes::Anywhere*>(to)[i] = from.part[i];
  }
}

// to += sums; long sums lose less in two steps.
FASTGAN_INLINE inline void add_to(float* to, const Lanes& sums) {
  Lanes total = read(to);
#pragma GCC unroll 16
  for (int i = 0; i < Lanes::kVectors; ++i) total.part[i] += sums.part[i];
  write(to, total);
}

FASTGAN_INLINE inline void write(BFloat16* to, const Lanes& from) {
  float wide[Lanes::kWidth];
  write(wide, from);
#pragma omp simd
  for (int i = 0; i < Lanes::kWidth; ++i) store(to[i], wide[i]);
}

}  // namespace
}  // namespace fastgan::cpu
