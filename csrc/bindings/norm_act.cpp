// norm_act for Python. Outputs are allocated by the caller; see core/norm_act.h for the contract.
#include "cpu/norm_act.h"

#include <initializer_list>
#include <string>

#include "bindings/module.h"
#include "bindings/tensor_view.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

// The checks of one call, and what they learn of its shape.
class Call {
 public:
  Call(const char* op, py::handle x, int64_t num_groups, double negative_slope, int threads)
      : op_(op), x_(view_of(x, op, "x")) {
    if (!x_.cpu) fail_value(op, "x must be on the CPU", x_.describe());
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
    shape_.threads = threads;
    last_ = x_.contiguous(Layout::kChannelsLast);
    first_ = x_.contiguous(Layout::kChannelsFirst);
    check_layout("x", x_);
  }

  void* x() const { return x_.data; }

  // A tensor of the same sizes, dtype and layout as x.
  void* like_x(py::handle object, const char* name) {
    const TensorView view = view_of(object, op_, name);
    bool same = view.cpu && view.dtype == x_.dtype && view.ndim == x_.ndim;
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
  void* statistic(py::handle object, const char* name) const {
    const TensorView view = view_of(object, op_, name);
    const Dtype dtype = x_.dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
    if (!view.cpu || view.dtype != dtype || view.ndim != 2 || view.sizes[0] != shape_.B ||
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
  Affine affine(py::handle object, const char* name) const {
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
    if (!view.cpu || !view.contiguous()) {
      fail_value(op_, std::string(name) + " must be contiguous on the CPU", view.describe());
    }
    return {view.data, *view.dtype, per_sample};
  }

  // The shape with the layout that all tensors seen so far share.
  NormActShape shape() const {
    NormActShape shape = shape_;
    shape.layout = last_ ? Layout::kChannelsLast : Layout::kChannelsFirst;
    return shape;
  }

 private:
  void check_layout(const char* name, const TensorView& view) const {
    if (last_ || first_) return;
    fail_value(op_,
               std::string(name) + " must be contiguous, channels first or last, the same as x",
               "strides " + shape_text(view.strides.data(), view.ndim));
  }

  const char* op_;
  TensorView x_;
  NormActShape shape_{};
  bool last_, first_;
};

void fwd(py::handle x, py::handle weight, py::handle bias, int64_t num_groups, double eps,
         double negative_slope, int threads, py::handle y, py::handle mean, py::handle rstd) {
  Call call("norm_act_fwd", x, num_groups, negative_slope, threads);
  if (!(eps >= 0)) fail_value("norm_act_fwd", "eps must be at least 0", std::to_string(eps));
  NormActFwdParams params{};
  params.x = call.x();
  params.weight = call.affine<NormActAffine>(weight, "weight");
  params.bias = call.affine<NormActAffine>(bias, "bias");
  params.eps = eps;
  params.negative_slope = negative_slope;
  params.y = call.like_x(y, "y");
  params.mean = call.statistic(mean, "mean");
  params.rstd = call.statistic(rstd, "rstd");
  params.shape = call.shape();
  py::gil_scoped_release unlocked;
  cpu::norm_act_fwd(params);
}

void statistics(py::handle x, int64_t num_groups, double eps, int threads, py::handle mean,
                py::handle rstd) {
  Call call("norm_act_statistics", x, num_groups, 1, threads);
  if (!(eps >= 0)) fail_value("norm_act_statistics", "eps must be at least 0", std::to_string(eps));
  NormActFwdParams params{};
  params.x = call.x();
  params.eps = eps;
  params.mean = call.statistic(mean, "mean");
  params.rstd = call.statistic(rstd, "rstd");
  params.shape = call.shape();
  py::gil_scoped_release unlocked;
  cpu::norm_act_statistics(params);
}

void apply(py::handle x, py::handle mean, py::handle rstd, py::handle weight, py::handle bias,
           int64_t num_groups, double negative_slope, int threads, py::handle y) {
  Call call("norm_act_apply", x, num_groups, negative_slope, threads);
  NormActFwdParams params{};
  params.x = call.x();
  params.mean = call.statistic(mean, "mean");
  params.rstd = call.statistic(rstd, "rstd");
  params.weight = call.affine<NormActAffine>(weight, "weight");
  params.bias = call.affine<NormActAffine>(bias, "bias");
  params.negative_slope = negative_slope;
  params.y = call.like_x(y, "y");
  params.shape = call.shape();
  py::gil_scoped_release unlocked;
  cpu::norm_act_apply(params);
}

void bwd(py::handle g, py::handle x, py::handle mean, py::handle rstd, py::handle weight,
         py::handle bias, int64_t num_groups, double negative_slope, int threads, py::handle d_x,
         py::handle d_weight, py::handle d_bias) {
  Call call("norm_act_bwd", x, num_groups, negative_slope, threads);
  NormActBwdParams params{};
  params.g = call.like_x(g, "g");
  params.x = call.x();
  params.mean = call.statistic(mean, "mean");
  params.rstd = call.statistic(rstd, "rstd");
  params.weight = call.affine<NormActAffine>(weight, "weight");
  params.bias = call.affine<NormActAffine>(bias, "bias");
  params.negative_slope = negative_slope;
  params.d_x = call.like_x(d_x, "d_x");
  params.d_weight = call.affine<NormActAffineGradient>(d_weight, "d_weight");
  params.d_bias = call.affine<NormActAffineGradient>(d_bias, "d_bias");
  params.shape = call.shape();
  py::gil_scoped_release unlocked;
  cpu::norm_act_bwd(params);
}

void bwd_bwd(py::handle gg_x, py::handle gg_weight, py::handle gg_bias, py::handle g, py::handle x,
             py::handle mean, py::handle rstd, py::handle weight, py::handle bias,
             int64_t num_groups, double negative_slope, int threads, py::handle d_g, py::handle d_x,
             py::handle d_weight) {
  Call call("norm_act_bwd_bwd", x, num_groups, negative_slope, threads);
  NormActBwdBwdParams params{};
  params.gg_x = gg_x.is_none() ? nullptr : call.like_x(gg_x, "gg_x");
  params.gg_weight = call.affine<NormActAffine>(gg_weight, "gg_weight");
  params.gg_bias = call.affine<NormActAffine>(gg_bias, "gg_bias");
  params.g = call.like_x(g, "g");
  params.x = call.x();
  params.mean = call.statistic(mean, "mean");
  params.rstd = call.statistic(rstd, "rstd");
  params.weight = call.affine<NormActAffine>(weight, "weight");
  params.bias = call.affine<NormActAffine>(bias, "bias");
  params.negative_slope = negative_slope;
  params.d_g = call.like_x(d_g, "d_g");
  params.d_x = call.like_x(d_x, "d_x");
  params.d_weight = call.affine<NormActAffineGradient>(d_weight, "d_weight");
  params.shape = call.shape();
  py::gil_scoped_release unlocked;
  cpu::norm_act_bwd_bwd(params);
}

}  // namespace

void bind_norm_act(py::module_& module) {
  module.def("norm_act_fwd", &fwd, "Writes y, mean and rstd.");
  module.def("norm_act_statistics", &statistics, "Writes mean and rstd.");
  module.def("norm_act_apply", &apply, "Writes y from mean and rstd.");
  module.def("norm_act_bwd", &bwd, "Writes d_x, and d_weight and d_bias where given.");
  module.def("norm_act_bwd_bwd", &bwd_bwd, "Writes d_g and d_x, and d_weight where given.");
}

}  // namespace fastgan::bindings
