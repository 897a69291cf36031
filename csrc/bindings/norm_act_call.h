// What every pass of norm_act checks, whether its kernels run on the CPU or on a GPU.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "bindings/tensor_view.h"
#include "core/norm_act.h"

namespace fastgan::bindings {

using pybind11::handle;

// The checks of one call, and what they learn of its shape.
class NormActCall {
 public:
  NormActCall(const Home& home, const char* op, handle x, int64_t num_groups, double negative_slope,
              int threads)
      : home_(home), op_(op), x_(view_of(x, op, "x")), negative_slope_(negative_slope) {
    if (!home.holds(x_)) fail_value(op, std::string("x must be ") + home.name, x_.describe());
    if (!x_.dtype || !computes(*x_.dtype))
      fail_type(op, "x must be float32, bfloat16 or float64", x_.describe());
    if (x_.ndim < 2) fail_value(op, "x must be [B, C, ...]", x_.describe());
    shape_.B = x_.sizes[0];
    shape_.C = x_.sizes[1];
    shape_.S = 1;
    for (int i = 2; i < x_.ndim; ++i) shape_.S *= x_.sizes[i];
    if (num_groups < 1 || shape_.C % num_groups != 0) {
      fail_value(op, "num_groups must divide C = " + std::to_string(shape_.C),
                 std::to_string(num_groups));
    }
    // also refuses NaN
    if (!(negative_slope >= 0)) {
      fail_value(op, "negative_slope must be at least 0", std::to_string(negative_slope));
    }
    shape_.G = num_groups;
    shape_.dtype = *x_.dtype;
    shape_.threads = bounded_threads(threads);
    last_ = x_.contiguous(Layout::kChannelsLast);
    first_ = x_.contiguous(Layout::kChannelsFirst);
    check_layout("x", x_);
  }

  const TensorView& view() const { return x_; }

  // With the layout that all tensors seen so far share.
  NormActShape shape() const {
    NormActShape shape = shape_;
    shape.layout = last_ ? Layout::kChannelsLast : Layout::kChannelsFirst;
    return shape;
  }

  NormActFwdParams fwd(handle weight, handle bias, double eps, handle y, handle mean, handle rstd) {
    NormActFwdParams params = statistics(eps, mean, rstd);
    params.weight = affine<NormActAffine>(weight, "weight");
    params.bias = affine<NormActAffine>(bias, "bias");
    params.negative_slope = negative_slope_;
    params.y = like_x(y, "y");
    params.shape = shape();
    return params;
  }

  NormActFwdParams statistics(double eps, handle mean, handle rstd) const {
    if (!(eps >= 0)) fail_value(op_, "eps must be at least 0", std::to_string(eps));
    NormActFwdParams params{};
    params.x = x_.data;
    params.eps = eps;
    params.mean = statistic(mean, "mean");
    params.rstd = statistic(rstd, "rstd");
    params.shape = shape();
    return params;
  }

  NormActFwdParams apply(handle mean, handle rstd, handle weight, handle bias, handle y) {
    return fwd(weight, bias, 0, y, mean, rstd);
  }

  NormActBwdParams bwd(handle g, handle mean, handle rstd, handle weight, handle bias, handle d_x,
                       handle d_weight, handle d_bias) {
    NormActBwdParams params{};
    params.g = like_x(g, "g");
    params.x = x_.data;
    params.mean = statistic(mean, "mean");
    params.rstd = statistic(rstd, "rstd");
    params.weight = affine<NormActAffine>(weight, "weight");
    params.bias = affine<NormActAffine>(bias, "bias");
    params.negative_slope = negative_slope_;
    params.d_x = like_x(d_x, "d_x");
    params.d_weight = affine<NormActAffineGradient>(d_weight, "d_weight");
    params.d_bias = affine<NormActAffineGradient>(d_bias, "d_bias");
    params.shape = shape();
    return params;
  }

  NormActBwdBwdParams bwd_bwd(handle gg_x, handle gg_weight, handle gg_bias, handle g, handle mean,
                              handle rstd, handle weight, handle bias, handle d_g, handle d_x,
                              handle d_weight) {
    NormActBwdBwdParams params{};
    params.gg_x = gg_x.is_none() ? nullptr : like_x(gg_x, "gg_x");
    params.gg_weight = affine<NormActAffine>(gg_weight, "gg_weight");
    params.gg_bias = affine<NormActAffine>(gg_bias, "gg_bias");
    params.g = like_x(g, "g");
    params.x = x_.data;
    params.mean = statistic(mean, "mean");
    params.rstd = statistic(rstd, "rstd");
    params.weight = affine<NormActAffine>(weight, "weight");
    params.bias = affine<NormActAffine>(bias, "bias");
    params.negative_slope = negative_slope_;
    params.d_g = like_x(d_g, "d_g");
    params.d_x = like_x(d_x, "d_x");
    params.d_weight = affine<NormActAffineGradient>(d_weight, "d_weight");
    params.shape = shape();
    return params;
  }

 private:
  // A tensor of the same sizes, dtype and layout as x.
  void* like_x(handle object, const char* name) {
    const TensorView view = view_of(object, op_, name);
    bool same = beside_x(view) && view.dtype == x_.dtype && view.ndim == x_.ndim;
    for (int i = 0; same && i < view.ndim; ++i) same = view.sizes[i] == x_.sizes[i];
    if (!same) {
      fail_value(op_, std::string(name) + " must be like x, " + x_.describe(), view.describe());
    }
    last_ = last_ && view.contiguous(Layout::kChannelsLast);
    first_ = first_ && view.contiguous(Layout::kChannelsFirst);
    check_layout(name, view);
    return view.data;
  }

  // [B, G] of the compute type.
  void* statistic(handle object, const char* name) const {
    const TensorView view = view_of(object, op_, name);
    const Dtype dtype = x_.dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
    if (!beside_x(view) || view.dtype != dtype || view.ndim != 2 || view.sizes[0] != shape_.B ||
        view.sizes[1] != shape_.G || !view.contiguous()) {
      const int64_t sizes[] = {shape_.B, shape_.G};
      fail_value(op_,
                 std::string(name) + " must be contiguous " + shape_text(sizes, 2) +
                     (dtype == Dtype::kFloat64 ? " float64" : " float32"),
                 view.describe());
    }
    return view.data;
  }

  // [C] or [B, C] of any dtype, or None.
  template <class Affine>
  Affine affine(handle object, const char* name) const {
    if (object.is_none()) return {};
    const TensorView view = view_of(object, op_, name);
    const bool per_channel = view.ndim == 1 && view.sizes[0] == shape_.C;
    const bool per_sample =
        view.ndim == 2 && view.sizes[0] == shape_.B && view.sizes[1] == shape_.C;
    if (!per_channel && !per_sample) {
      fail_value(op_, std::string(name) + " must be [C] or [B, C]",
                 shape_text(view.sizes.data(), view.ndim));
    }
    if (!view.dtype || !computes(*view.dtype)) {
      fail_type(op_, std::string(name) + " must be float32, bfloat16 or float64", view.describe());
    }
    if (!beside_x(view) || !view.contiguous()) {
      fail_value(op_, std::string(name) + " must be contiguous and beside x, " + x_.describe(),
                 view.describe());
    }
    return {view.data, *view.dtype, per_sample};
  }

  bool beside_x(const TensorView& view) const {
    return home_.holds(view) && view.device == x_.device;
  }

  void check_layout(const char* name, const TensorView& view) const {
    if (last_ || first_) return;
    fail_value(op_,
               std::string(name) + " must be contiguous, channels first or last, the same as x",
               "strides " + shape_text(view.strides.data(), view.ndim));
  }

  const Home& home_;
  const char* op_;
  TensorView x_;
  double negative_slope_;
  NormActShape shape_{};
  bool last_, first_;
};

}  // namespace fastgan::bindings
