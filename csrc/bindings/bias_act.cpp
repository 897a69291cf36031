// bias_act for Python. Outputs are allocated by the caller; see core/bias_act.h for the contract.
#include "cpu/bias_act.h"

#include <string>

#include "bindings/module.h"
#include "bindings/tensor_view.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

TensorView volume(const char* op, py::handle object, const char* name) {
  const TensorView view = view_of(object, op, name);
  if (!view.cpu) fail_value(op, std::string(name) + " must be on the CPU", view.describe());
  if (!view.dtype || !computes(*view.dtype)) {
    fail_type(op, std::string(name) + " must be float32, bfloat16 or float64", view.describe());
  }
  return view;
}

// A tensor of the sizes, dtype and strides of x.
void* like(const char* op, py::handle object, const char* name, const TensorView& x) {
  const TensorView view = view_of(object, op, name);
  bool same = view.cpu && view.dtype == x.dtype && view.ndim == x.ndim;
  for (int i = 0; same && i < view.ndim; ++i) {
    same = view.sizes[i] == x.sizes[i] && (view.sizes[i] == 1 || view.strides[i] == x.strides[i]);
  }
  if (!same) fail_value(op, std::string(name) + " must be like " + x.describe(), view.describe());
  return view.data;
}

uint8_t* bits_of(const char* op, py::handle object, int64_t size) {
  const TensorView view = view_of(object, op, "bits");
  if (!view.cpu || view.dtype != Dtype::kUInt8 || view.ndim != 1 || !view.contiguous() ||
      view.sizes[0] != (size + 7) / 8) {
    fail_value(op, "bits must be contiguous uint8 [" + std::to_string((size + 7) / 8) + "]",
               view.describe());
  }
  return static_cast<uint8_t*>(view.data);
}

void fwd(py::handle x, py::handle bias, double negative_slope, int threads, py::handle y,
         py::handle bits) {
  const char* op = "bias_act_fwd";
  const TensorView view = volume(op, x, "x");
  if (view.ndim < 2) fail_value(op, "x must be [B, C, ...]", view.describe());
  BiasActFwdParams params{};
  params.size = view.numel();
  params.C = view.sizes[1];
  const bool last = view.contiguous(Layout::kChannelsLast);
  params.run = last || params.size == 0 ? 1 : params.size / (view.sizes[0] * params.C);
  if (!last && !view.contiguous()) {
    fail_value(op, "x must be contiguous, channels first or last", view.describe());
  }
  params.dtype = *view.dtype;
  params.threads = threads;
  params.x = view.data;
  if (!bias.is_none()) {
    const TensorView row = view_of(bias, op, "bias");
    if (!row.cpu || row.dtype != view.dtype || row.ndim != 1 || row.sizes[0] != params.C ||
        !row.contiguous()) {
      fail_value(op, "bias must be contiguous [C], in the dtype of x", row.describe());
    }
    params.bias = row.data;
  }
  params.negative_slope = negative_slope;
  params.y = like(op, y, "y", view);
  params.bits = bits_of(op, bits, params.size);
  py::gil_scoped_release unlocked;
  cpu::bias_act_fwd(params);
}

void bwd(py::handle g, py::handle bits, double negative_slope, int threads, py::handle d_x) {
  const char* op = "bias_act_bwd";
  const TensorView view = volume(op, g, "g");
  if (!view.contiguous(Layout::kChannelsLast) && !view.contiguous()) {
    fail_value(op, "g must be contiguous, channels first or last", view.describe());
  }
  BiasActBwdParams params{};
  params.size = view.numel();
  params.dtype = *view.dtype;
  params.threads = threads;
  params.g = view.data;
  params.bits = bits_of(op, bits, params.size);
  params.negative_slope = negative_slope;
  params.d_x = like(op, d_x, "d_x", view);
  py::gil_scoped_release unlocked;
  cpu::bias_act_bwd(params);
}

}  // namespace

void bind_bias_act(py::module_& module) {
  module.def("bias_act_fwd", &fwd, "Writes y and bits.");
  module.def("bias_act_bwd", &bwd, "Writes d_x.");
}

}  // namespace fastgan::bindings
