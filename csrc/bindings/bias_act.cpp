// bias_act for Python. Outputs are allocated by the caller; see core/bias_act.h for the contract.
#include "cpu/bias_act/bias_act.h"

#include "bindings/bias_act_call.h"
#include "bindings/module.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

void fwd(py::handle x, py::handle bias, double negative_slope, int threads, py::handle y,
         py::handle bits) {
  const BiasActCall call(kCpuHome, "bias_act_fwd", x, "x", negative_slope);
  const BiasActFwdParams params = call.fwd(bias, y, bits, threads);
  py::gil_scoped_release unlocked;
  cpu::bias_act_fwd(params);
}

void bwd(py::handle g, py::handle bits, double negative_slope, int threads, py::handle d_x) {
  const BiasActCall call(kCpuHome, "bias_act_bwd", g, "g", negative_slope);
  const BiasActBwdParams params = call.bwd(bits, d_x, threads);
  py::gil_scoped_release unlocked;
  cpu::bias_act_bwd(params);
}

}  // namespace

void bind_bias_act(py::module_& module) {
  module.def("bias_act_fwd", &fwd, "Writes y and bits.");
  module.def("bias_act_bwd", &bwd, "Writes d_x.");
}

}  // namespace fastgan::bindings
