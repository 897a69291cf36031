// slope_penalty on a GPU for Python. Outputs and scratch memory are allocated by the caller; see
// core/slope_penalty.h for the contract.
#include <string>

#include "bindings/cuda_call.h"
#include "bindings/module.h"
#include "cuda/slope_penalty/slope_penalty.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

// The tensor that gives the shape: samples dense and one behind the other.
TensorView samples(const char* op, py::handle object, const char* name) {
  const TensorView view = view_of(object, op, name);
  if (!kCudaHome.holds(view)) {
    fail_value(op, std::string(name) + " must be " + kCudaHome.name, view.describe());
  }
  if (!view.dtype || !computes(*view.dtype)) {
    fail_type(op, std::string(name) + " must be float32, bfloat16 or float64", view.describe());
  }
  const bool dense = view.contiguous() || view.contiguous(Layout::kChannelsLast);
  if (view.ndim < 2 || view.numel() == 0 || !dense) {
    fail_value(op, std::string(name) + " must be [B, C, ...], not empty, channels first or last",
               view.describe());
  }
  return view;
}

SlopePenaltyShape shape_of(const TensorView& view) {
  return {view.sizes[0], view.numel() / view.sizes[0], *view.dtype};
}

void* like(const char* op, py::handle object, const char* name, const TensorView& x) {
  const TensorView view = view_of(object, op, name);
  bool same = kCudaHome.holds(view) && view.device == x.device && view.dtype == x.dtype &&
              view.ndim == x.ndim;
  for (int i = 0; same && i < view.ndim; ++i) {
    same = view.sizes[i] == x.sizes[i] && (view.sizes[i] == 1 || view.strides[i] == x.strides[i]);
  }
  if (!same) fail_value(op, std::string(name) + " must be like " + x.describe(), view.describe());
  return view.data;
}

// A contiguous tensor of the accumulation type, of so many elements.
void* wide(const char* op, py::handle object, const char* name, const TensorView& x,
           int64_t count) {
  const TensorView view = view_of(object, op, name);
  const Dtype dtype = x.dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
  if (!kCudaHome.holds(view) || view.device != x.device || view.dtype != dtype ||
      view.numel() != count || !view.contiguous()) {
    fail_value(op,
               std::string(name) + " must be contiguous " +
                   (dtype == Dtype::kFloat64 ? "float64" : "float32") + ", of " +
                   std::to_string(count) + " elements, beside " + x.describe(),
               view.describe());
  }
  return view.data;
}

int64_t slope_penalty_workspace(py::handle slope) {
  return cuda::slope_penalty_workspace(shape_of(samples("slope_penalty", slope, "slope")));
}

void slope_penalty_fwd(py::handle slope, double target, bool one_sided, uintptr_t stream,
                       py::handle scratch, py::handle value, py::handle norms) {
  const char* op = "slope_penalty_fwd";
  const TensorView view = samples(op, slope, "slope");
  SlopePenaltyFwdParams params{};
  params.shape = shape_of(view);
  params.slope = view.data;
  params.target = target;
  params.one_sided = one_sided;
  params.value = wide(op, value, "value", view, 1);
  params.norms = wide(op, norms, "norms", view, params.shape.B);
  void* memory = workspace_of(scratch, view, op, cuda::slope_penalty_workspace(params.shape));
  launch_on(view, op, [&] { return cuda::slope_penalty_fwd(params, memory, stream_of(stream)); });
}

void slope_penalty_bwd(py::handle g, py::handle slope, py::handle norms, double target,
                       bool one_sided, uintptr_t stream, py::handle d_slope) {
  const char* op = "slope_penalty_bwd";
  const TensorView view = samples(op, slope, "slope");
  SlopePenaltyBwdParams params{};
  params.shape = shape_of(view);
  params.g = wide(op, g, "g", view, 1);
  params.slope = view.data;
  params.norms = wide(op, norms, "norms", view, params.shape.B);
  params.target = target;
  params.one_sided = one_sided;
  params.d_slope = like(op, d_slope, "d_slope", view);
  launch_on(view, op, [&] { return cuda::slope_penalty_bwd(params, stream_of(stream)); });
}

void slope_penalty_mix(py::handle real, py::handle fake, py::handle share, uintptr_t stream,
                       py::handle x) {
  const char* op = "slope_penalty_mix";
  const TensorView view = samples(op, real, "real");
  SlopePenaltyMixParams params{};
  params.shape = shape_of(view);
  params.real = view.data;
  params.fake = like(op, fake, "fake", view);
  params.share = wide(op, share, "share", view, params.shape.B);
  params.x = like(op, x, "x", view);
  launch_on(view, op, [&] { return cuda::slope_penalty_mix(params, stream_of(stream)); });
}

}  // namespace

void bind_slope_penalty_cuda(py::module_& module) {
  module.def("slope_penalty_workspace", &slope_penalty_workspace,
             "Bytes of scratch memory of the forward.");
  module.def("slope_penalty_fwd", &slope_penalty_fwd, "Writes value and norms.");
  module.def("slope_penalty_bwd", &slope_penalty_bwd, "Writes d_slope.");
  module.def("slope_penalty_mix", &slope_penalty_mix, "Writes x.");
}

}  // namespace fastgan::bindings
