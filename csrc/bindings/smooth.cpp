// smooth for Python. The output is allocated by the caller; see core/smooth.h for the contract.
#include "cpu/smooth/smooth.h"

#include "bindings/module.h"
#include "bindings/tensor_view.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

void run(py::handle x, int threads, py::handle y) {
  const char* op = "smooth";
  const TensorView in = view_of(x, op, "x"), out = view_of(y, op, "y");
  if (!in.dtype || !computes(*in.dtype)) {
    fail_type(op, "x must be float32, bfloat16 or float64", in.describe());
  }
  const bool last = in.contiguous(Layout::kChannelsLast);
  if (!in.cpu || in.ndim != 5 || (!last && !in.contiguous())) {
    fail_value(op, "x must be [B, C, D, H, W] on the CPU, channels first or last", in.describe());
  }
  const Layout layout = last ? Layout::kChannelsLast : Layout::kChannelsFirst;
  if (!out.cpu || out.dtype != in.dtype || out.ndim != 5 || out.sizes != in.sizes ||
      !out.contiguous(layout) || out.data == in.data) {
    fail_value(op, "y must be apart from x and like it, " + in.describe(), out.describe());
  }
  SmoothParams params{};
  // channels first are samples of one channel
  params.B = last ? in.sizes[0] : in.sizes[0] * in.sizes[1];
  params.C = last ? in.sizes[1] : 1;
  for (int i = 0; i < 3; ++i) params.size[i] = in.sizes[2 + i];
  params.dtype = *in.dtype;
  params.threads = bounded_threads(threads);
  params.x = in.data;
  params.y = out.data;
  if (in.numel() == 0) return;
  py::gil_scoped_release unlocked;
  cpu::smooth(params);
}

}  // namespace

void bind_smooth(py::module_& module) { module.def("smooth", &run, "Writes y."); }

}  // namespace fastgan::bindings
