// Group normalisation, affine map and LeakyReLU: parameters and formulas of the value, the first
// and the second derivative. For a group of m = C / G * S elements:
//   mean = E[x]   rstd = (Var[x] + eps)^-1/2   xh = (x - mean) rstd   z = weight xh + bias
//   s = z > 0 ? 1 : negative_slope   y = s z
// At z = 0 the slope is negative_slope, as in torch. A NaN or infinity poisons its own group alone.
// Results do not depend on the number of threads. B, C, S and G may be zero where x is empty.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/layout.h"
#include "core/macros.h"

namespace fastgan {

// A weight or bias and its like.
struct NormActAffine {
  const void* data = nullptr;  // [C] or [B, C]; null: absent
  Dtype dtype = Dtype::kFloat32;
  bool per_sample = false;  // [B, C]
};

// Where the gradient of an affine parameter goes.
struct NormActAffineGradient {
  void* data = nullptr;  // [C] or [B, C]; null: not wanted
  Dtype dtype = Dtype::kFloat32;
  bool per_sample = false;
};

struct NormActShape {
  int64_t B, C, S, G;  // G divides C
  Layout layout;
  Dtype dtype;  // of every [B, C, S] tensor; statistics are float32, or float64 for float64
  int threads;  // upper bound

  bool empty() const { return B * C * S == 0; }
};

struct NormActFwdParams {
  NormActShape shape;
  const void* x;  // [B, C, S] input
  NormActAffine weight;
  NormActAffine bias;
  double eps;
  double negative_slope;
  void* y;     // [B, C, S] output; not used by the statistics alone
  void* mean;  // [B, G] output; of the application alone an input
  void* rstd;  // [B, G] output; of the application alone an input
};

struct NormActBwdParams {
  NormActShape shape;
  const void* g;     // [B, C, S] gradient of y
  const void* x;     // [B, C, S] input of the forward
  const void* mean;  // [B, G]
  const void* rstd;  // [B, G]
  NormActAffine weight;
  NormActAffine bias;
  double negative_slope;
  void* d_x;  // [B, C, S] output
  NormActAffineGradient d_weight;
  NormActAffineGradient d_bias;
};

struct NormActBwdBwdParams {
  NormActShape shape;
  const void* gg_x;  // [B, C, S] gradient of d_x; null: zero
  NormActAffine gg_weight;
  NormActAffine gg_bias;
  const void* g;     // [B, C, S] gradient of y
  const void* x;     // [B, C, S] input of the forward
  const void* mean;  // [B, G]
  const void* rstd;  // [B, G]
  NormActAffine weight;
  NormActAffine bias;
  double negative_slope;
  void* d_g;  // [B, C, S] output
  void* d_x;  // [B, C, S] output
  NormActAffineGradient d_weight;
};

// scale = weight * rstd, rounded once, so that every pass finds the same side of the kink.
template <class A>
FASTGAN_FORMULA A norm_act_z(A centred, A scale, A bias) {
  return centred * scale + bias;
}

template <class A>
FASTGAN_FORMULA A norm_act_slope(A z, A negative_slope) {
  return z > A(0) ? A(1) : negative_slope;
}

// slope * value: a choice instead of a product, which needs a register less; the bits are the same.
template <class A>
FASTGAN_FORMULA A norm_act_sloped(A z, A negative_slope, A value) {
  return z > A(0) ? value : negative_slope * value;
}

// Sums over a group, divided by m; u = s g.
struct NormActBwdMeans {
  double weight_u = 0;     // a = sum(weight u) / m
  double weight_u_xh = 0;  // b = sum(weight u xh) / m
};

// d_x = u * [0] + (x - mean) * [1] + [2]
struct NormActBwdCoefficients {
  double u, centred, one;
};

FASTGAN_FORMULA NormActBwdCoefficients norm_act_bwd_coefficients(double weight, double rstd,
                                                                 NormActBwdMeans m) {
  return {weight * rstd, -rstd * rstd * m.weight_u_xh, -rstd * m.weight_u};
}

// Sums over a group, divided by m; v = gg_x, hg = gg_weight.
struct NormActBwdBwdMeans {
  NormActBwdMeans first;
  double v = 0;           // sum(v) / m
  double v_xh = 0;        // c = sum(v xh) / m
  double weight_v_u = 0;  // sum(weight v u) / m
  double hg_u = 0;        // ea = sum(hg u) / m
  double hg_u_xh = 0;     // eb = sum(hg u xh) / m
};

// d_g = s (v * g_v + (x - mean) * g_centred + g_one)
// d_x = u * x_u + v * x_v + (x - mean) * x_centred + x_one
struct NormActBwdBwdCoefficients {
  double g_v, g_centred, g_one;
  double x_u, x_v, x_centred, x_one;
};

FASTGAN_FORMULA NormActBwdBwdCoefficients norm_act_bwd_bwd_coefficients(
    double weight, double hg, double hb, double rstd, const NormActBwdBwdMeans& m) {
  const double a = m.first.weight_u, b = m.first.weight_u_xh, c = m.v_xh;
  const double k = m.weight_v_u - m.v * a;
  const double r = rstd, r2 = rstd * rstd;
  NormActBwdBwdCoefficients out;
  out.g_v = weight * r;
  out.g_centred = (hg - weight * r * c) * r;
  out.g_one = hb - weight * r * m.v;
  out.x_u = r * hg - r2 * c * weight;
  out.x_v = -r2 * b;
  out.x_centred = -r2 * (r * (k - 3 * b * c) + m.hg_u_xh);
  out.x_one = r2 * (c * a + b * m.v) - r * m.hg_u;
  return out;
}

// Contribution of one sample's channel to the gradient of weight, from its sums over S.
FASTGAN_FORMULA double norm_act_bwd_bwd_weight(double rstd, double sum_u, double sum_u_xh,
                                               double sum_v_u, const NormActBwdBwdMeans& m) {
  return rstd * (sum_v_u - m.v * sum_u - m.v_xh * sum_u_xh);
}

}  // namespace fastgan
