// bias_act on a GPU for Python. Outputs are allocated by the caller; see core/bias_act.h for the
// contract.
#include "bindings/bias_act_call.h"
#include "bindings/cuda_call.h"
#include "bindings/module.h"
#include "cuda/bias_act/bias_act.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

void bias_act_fwd(py::handle x, py::handle bias, double negative_slope, uintptr_t stream,
                  py::handle y, py::handle bits) {
  const char* op = "bias_act_fwd";
  const BiasActCall call(kCudaHome, op, x, "x", negative_slope);
  const BiasActFwdParams params = call.fwd(bias, y, bits, 1);
  launch_on(call.view(), op, [&] { return cuda::bias_act_fwd(params, stream_of(stream)); });
}

void bias_act_bwd(py::handle g, py::handle bits, double negative_slope, uintptr_t stream,
                  py::handle d_x) {
  const char* op = "bias_act_bwd";
  const BiasActCall call(kCudaHome, op, g, "g", negative_slope);
  const BiasActBwdParams params = call.bwd(bits, d_x, 1);
  launch_on(call.view(), op, [&] { return cuda::bias_act_bwd(params, stream_of(stream)); });
}

}  // namespace

void bind_bias_act_cuda(py::module_& module) {
  module.def("bias_act_fwd", &bias_act_fwd, "Writes y and bits.");
  module.def("bias_act_bwd", &bias_act_bwd, "Writes d_x.");
}

}  // namespace fastgan::bindings
