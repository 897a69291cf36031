// norm_act for Python. Outputs are allocated by the caller; see core/norm_act.h for the contract.
#include "cpu/norm_act/norm_act.h"

#include "bindings/module.h"
#include "bindings/norm_act_call.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

void fwd(handle x, handle weight, handle bias, int64_t num_groups, double eps,
         double negative_slope, int threads, handle y, handle mean, handle rstd) {
  NormActCall call(kCpuHome, "norm_act_fwd", x, num_groups, negative_slope, threads);
  const NormActFwdParams params = call.fwd(weight, bias, eps, y, mean, rstd);
  py::gil_scoped_release unlocked;
  cpu::norm_act_fwd(params);
}

void statistics(handle x, int64_t num_groups, double eps, int threads, handle mean, handle rstd) {
  NormActCall call(kCpuHome, "norm_act_statistics", x, num_groups, 1, threads);
  const NormActFwdParams params = call.statistics(eps, mean, rstd);
  py::gil_scoped_release unlocked;
  cpu::norm_act_statistics(params);
}

void apply(handle x, handle mean, handle rstd, handle weight, handle bias, int64_t num_groups,
           double negative_slope, int threads, handle y) {
  NormActCall call(kCpuHome, "norm_act_apply", x, num_groups, negative_slope, threads);
  const NormActFwdParams params = call.apply(mean, rstd, weight, bias, y);
  py::gil_scoped_release unlocked;
  cpu::norm_act_apply(params);
}

void bwd(handle g, handle x, handle mean, handle rstd, handle weight, handle bias,
         int64_t num_groups, double negative_slope, int threads, handle d_x, handle d_weight,
         handle d_bias) {
  NormActCall call(kCpuHome, "norm_act_bwd", x, num_groups, negative_slope, threads);
  const NormActBwdParams params = call.bwd(g, mean, rstd, weight, bias, d_x, d_weight, d_bias);
  py::gil_scoped_release unlocked;
  cpu::norm_act_bwd(params);
}

void bwd_bwd(handle gg_x, handle gg_weight, handle gg_bias, handle g, handle x, handle mean,
             handle rstd, handle weight, handle bias, int64_t num_groups, double negative_slope,
             int threads, handle d_g, handle d_x, handle d_weight) {
  NormActCall call(kCpuHome, "norm_act_bwd_bwd", x, num_groups, negative_slope, threads);
  const NormActBwdBwdParams params =
      call.bwd_bwd(gg_x, gg_weight, gg_bias, g, mean, rstd, weight, bias, d_g, d_x, d_weight);
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
