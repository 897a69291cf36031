// Convolutions between one channel and 16 n on a GPU for Python. Outputs and scratch memory are
// allocated by the caller; see core/conv3d.h for the contract.
#include <pybind11/stl.h>

#include <string>

#include "bindings/conv3d_call.h"
#include "bindings/cuda_call.h"
#include "bindings/module.h"
#include "cuda/conv3d/conv3d.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

ConvSingleCall conv_call(const char* op, py::handle x, py::handle weight, py::handle y,
                         const Axes& stride, const Axes& padding) {
  const ConvSingleCall call(kCudaHome, op, x, weight, y, stride, padding, 1);
  if (reinterpret_cast<uintptr_t>(call.params().y) % 16) {
    fail_value(op, "y must begin on a 16-byte border", "another address");
  }
  return call;
}

int64_t conv_single_workspace(py::handle x, py::handle weight, py::handle y, const Axes& stride,
                              const Axes& padding) {
  const ConvSingleCall call = conv_call("conv_single_workspace", x, weight, y, stride, padding);
  return cuda::conv_single_wgrad_workspace(call.params());
}

void conv_single_fprop(py::handle x, py::handle weight, py::handle bias, const Axes& stride,
                       const Axes& padding, uintptr_t stream, py::handle y) {
  const char* op = "conv_single_fprop";
  const ConvSingleCall call = conv_call(op, x, weight, y, stride, padding);
  const ConvSingleParams params = call.with_bias(bias);
  launch_on(call.view(), op, [&] { return cuda::conv_single_fprop(params, stream_of(stream)); });
}

void conv_single_dgrad(py::handle y, py::handle weight, const Axes& stride, const Axes& padding,
                       uintptr_t stream, py::handle x) {
  const char* op = "conv_single_dgrad";
  const ConvSingleCall call = conv_call(op, x, weight, y, stride, padding);
  launch_on(call.view(), op,
            [&] { return cuda::conv_single_dgrad(call.params(), stream_of(stream)); });
}

void conv_single_wgrad(py::handle y, py::handle x, const Axes& stride, const Axes& padding,
                       uintptr_t stream, py::handle scratch, py::handle weight) {
  const char* op = "conv_single_wgrad";
  const ConvSingleCall call = conv_call(op, x, weight, y, stride, padding);
  const int64_t bytes = cuda::conv_single_wgrad_workspace(call.params());
  void* memory = workspace_of(scratch, call.view(), op, bytes);
  launch_on(call.view(), op,
            [&] { return cuda::conv_single_wgrad(call.params(), memory, stream_of(stream)); });
}

}  // namespace

void bind_conv3d_cuda(py::module_& module) {
  module.def("conv_single_workspace", &conv_single_workspace,
             "Bytes of scratch memory of the weight gradient.");
  module.def("conv_single_fprop", &conv_single_fprop, "Writes y.");
  module.def("conv_single_dgrad", &conv_single_dgrad, "Writes x.");
  module.def("conv_single_wgrad", &conv_single_wgrad, "Writes weight.");
}

}  // namespace fastgan::bindings
