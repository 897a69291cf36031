// norm_act on a GPU for Python. Outputs and scratch memory are allocated by the caller; see
// core/norm_act.h for the contract.
#include <string>

#include "bindings/cuda_call.h"
#include "bindings/module.h"
#include "bindings/norm_act_call.h"
#include "cuda/norm_act/norm_act.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

int64_t norm_act_workspace(const std::string& pass, handle x, int64_t num_groups) {
  const NormActShape shape = NormActCall(kCudaHome, pass.c_str(), x, num_groups, 1, 1).shape();
  if (pass == "norm_act_bwd") return cuda::norm_act_bwd_workspace(shape);
  if (pass == "norm_act_bwd_bwd") return cuda::norm_act_bwd_bwd_workspace(shape);
  return cuda::norm_act_fwd_workspace(shape);
}

void norm_act_fwd(handle x, handle weight, handle bias, int64_t num_groups, double eps,
                  double negative_slope, uintptr_t stream, handle scratch, handle y, handle mean,
                  handle rstd) {
  const char* op = "norm_act_fwd";
  NormActCall call(kCudaHome, op, x, num_groups, negative_slope, 1);
  const NormActFwdParams params = call.fwd(weight, bias, eps, y, mean, rstd);
  void* memory = workspace_of(scratch, call.view(), op, cuda::norm_act_fwd_workspace(params.shape));
  launch_on(call.view(), op, [&] { return cuda::norm_act_fwd(params, memory, stream_of(stream)); });
}

void norm_act_statistics(handle x, int64_t num_groups, double eps, uintptr_t stream, handle scratch,
                         handle mean, handle rstd) {
  const char* op = "norm_act_statistics";
  NormActCall call(kCudaHome, op, x, num_groups, 1, 1);
  const NormActFwdParams params = call.statistics(eps, mean, rstd);
  void* memory = workspace_of(scratch, call.view(), op, cuda::norm_act_fwd_workspace(params.shape));
  launch_on(call.view(), op,
            [&] { return cuda::norm_act_statistics(params, memory, stream_of(stream)); });
}

void norm_act_apply(handle x, handle mean, handle rstd, handle weight, handle bias,
                    int64_t num_groups, double negative_slope, uintptr_t stream, handle y) {
  const char* op = "norm_act_apply";
  NormActCall call(kCudaHome, op, x, num_groups, negative_slope, 1);
  const NormActFwdParams params = call.apply(mean, rstd, weight, bias, y);
  launch_on(call.view(), op, [&] { return cuda::norm_act_apply(params, stream_of(stream)); });
}

void norm_act_bwd(handle g, handle x, handle mean, handle rstd, handle weight, handle bias,
                  int64_t num_groups, double negative_slope, uintptr_t stream, handle scratch,
                  handle d_x, handle d_weight, handle d_bias) {
  const char* op = "norm_act_bwd";
  NormActCall call(kCudaHome, op, x, num_groups, negative_slope, 1);
  const NormActBwdParams params = call.bwd(g, mean, rstd, weight, bias, d_x, d_weight, d_bias);
  void* memory = workspace_of(scratch, call.view(), op, cuda::norm_act_bwd_workspace(params.shape));
  launch_on(call.view(), op, [&] { return cuda::norm_act_bwd(params, memory, stream_of(stream)); });
}

void norm_act_bwd_bwd(handle gg_x, handle gg_weight, handle gg_bias, handle g, handle x,
                      handle mean, handle rstd, handle weight, handle bias, int64_t num_groups,
                      double negative_slope, uintptr_t stream, handle scratch, handle d_g,
                      handle d_x, handle d_weight) {
  const char* op = "norm_act_bwd_bwd";
  NormActCall call(kCudaHome, op, x, num_groups, negative_slope, 1);
  const NormActBwdBwdParams params =
      call.bwd_bwd(gg_x, gg_weight, gg_bias, g, mean, rstd, weight, bias, d_g, d_x, d_weight);
  void* memory =
      workspace_of(scratch, call.view(), op, cuda::norm_act_bwd_bwd_workspace(params.shape));
  launch_on(call.view(), op,
            [&] { return cuda::norm_act_bwd_bwd(params, memory, stream_of(stream)); });
}

}  // namespace

void bind_norm_act_cuda(py::module_& module) {
  module.def("norm_act_workspace", &norm_act_workspace, "Bytes of scratch memory of a pass.");
  module.def("norm_act_fwd", &norm_act_fwd, "Writes y, mean and rstd.");
  module.def("norm_act_statistics", &norm_act_statistics, "Writes mean and rstd.");
  module.def("norm_act_apply", &norm_act_apply, "Writes y from mean and rstd.");
  module.def("norm_act_bwd", &norm_act_bwd, "Writes d_x, and d_weight and d_bias where given.");
  module.def("norm_act_bwd_bwd", &norm_act_bwd_bwd,
             "Writes d_g and d_x, and d_weight where given.");
}

}  // namespace fastgan::bindings
