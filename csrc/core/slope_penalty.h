// The penalty on a critic's slope, and the mixes of real and fake at which it is taken. For the
// slope g of each of B samples, n = |g|:
//   value = mean(e^2)   e = n - target, where one-sided at least 0   d_g = (2 / B) e g / n
// A slope of zero has a gradient of zero. Sums are float32 a thread and float64 beyond.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/macros.h"

namespace fastgan {

// Samples are dense and follow each other; the order of the S elements of one does not matter.
struct SlopePenaltyShape {
  int64_t B, S;
  Dtype dtype;  // of [B, S]; scalars and [B] are float32, or float64 for float64
};

struct SlopePenaltyFwdParams {
  SlopePenaltyShape shape;
  const void* slope;  // [B, S]
  double target;
  bool one_sided;
  void* value;  // [] output
  void* norms;  // [B] output
};

struct SlopePenaltyBwdParams {
  SlopePenaltyShape shape;
  const void* g;      // [] gradient of value
  const void* slope;  // [B, S]
  const void* norms;  // [B]
  double target;
  bool one_sided;
  void* d_slope;  // [B, S] output
};

// x = fake + share (real - fake)
struct SlopePenaltyMixParams {
  SlopePenaltyShape shape;
  const void* real;   // [B, S]
  const void* fake;   // [B, S], elements in the order of real
  const void* share;  // [B]
  void* x;            // [B, S] output
};

template <class A>
FASTGAN_FORMULA A slope_penalty_excess(A norm, A target, bool one_sided) {
  const A excess = norm - target;
  return one_sided && excess < A(0) ? A(0) : excess;
}

// d_g = g_value * [factor] * g
template <class A>
FASTGAN_FORMULA A slope_penalty_factor(A norm, A target, bool one_sided, A samples) {
  if (norm == A(0)) return A(0);
  return A(2) / samples * (slope_penalty_excess(norm, target, one_sided) / norm);
}

}  // namespace fastgan
