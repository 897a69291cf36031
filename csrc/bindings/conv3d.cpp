// Convolutions with one input channel and with several for Python. Outputs are allocated by the
// caller; see core/conv3d.h for the contract.
#include "cpu/conv3d/conv3d.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <type_traits>

#include "bindings/conv3d_call.h"
#include "bindings/module.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

void single_fprop(py::handle x, py::handle weight, py::handle bias, py::handle y,
                  const Axes& stride, const Axes& padding, int threads) {
  const char* op = "conv_single_fprop";
  ConvSingleCall call(kCpuHome, op, x, weight, y, stride, padding, threads);
  const ConvSingleParams params = call.with_bias(bias);
  py::gil_scoped_release unlocked;
  cpu::conv_single_fprop(params);
}

void single_dgrad(py::handle y, py::handle weight, py::handle x, const Axes& stride,
                  const Axes& padding, int threads) {
  const ConvSingleCall call(kCpuHome, "conv_single_dgrad", x, weight, y, stride, padding, threads);
  py::gil_scoped_release unlocked;
  cpu::conv_single_dgrad(call.params());
}

void single_wgrad(py::handle y, py::handle x, py::handle weight, const Axes& stride,
                  const Axes& padding, int threads) {
  const ConvSingleCall call(kCpuHome, "conv_single_wgrad", x, weight, y, stride, padding, threads);
  py::gil_scoped_release unlocked;
  cpu::conv_single_wgrad(call.params());
}

// Geometry of a convolution of several channels, all tensors channels last; `name` is that of what
// has K channels, y or its gradient.
template <class Params>
Params packed_params(const char* op, const char* name, const TensorView& out, const TensorView& in,
                     const TensorView& kernel, const Axes& stride, const Axes& padding,
                     const Axes& dilation, int threads) {
  Params params{};
  params.B = in.sizes[0];
  params.C = in.sizes[1];
  params.K = out.sizes[1];
  bool fits = out.sizes[0] == params.B && kernel.sizes[0] == params.K &&
              kernel.sizes[1] == params.C && in.dtype == kernel.dtype && in.dtype == out.dtype &&
              in.numel() > 0 && out.numel() > 0 && kernel.numel() > 0;
  for (int i = 0; i < 3; ++i) {
    params.in[i] = in.sizes[2 + i];
    params.out[i] = out.sizes[2 + i];
    params.kernel[i] = kernel.sizes[2 + i];
    params.stride[i] = stride[i];
    params.padding[i] = padding[i];
    params.dilation[i] = dilation[i];
    const int64_t room = conv_room(params.in[i], params.kernel[i], padding[i], dilation[i]);
    fits = fits && stride[i] >= 1 && stride[i] <= ConvSingleParams::kMaxAxis && room >= 0 &&
           params.out[i] == room / stride[i] + 1;
  }
  if (fits) {
    const int64_t padded[] = {params.B, params.C, params.in[0] + 2 * padding[0],
                              params.in[1] + 2 * padding[1], params.in[2] + 2 * padding[2]};
    const int64_t size = checked_product(padded, 5);
    if (size < 0 || size > std::max(Params::kMaxPadded, 8 * in.numel())) {
      fail_value(op, "x with its padding must be a volume of memory", shape_text(padded, 5));
    }
  }
  if (!fits || !params.fills_lanes()) {
    fail_value(op,
               std::string(name) + " [B, K, ...], x [B, C, ...] and weight [K, C, ...] must fit " +
                   "together",
               out.describe() + ", " + in.describe() + ", " + kernel.describe());
  }
  params.dtype = *in.dtype;
  params.threads = bounded_threads(threads);
  if constexpr (std::is_same_v<Params, ConvPackedFpropParams>) {
    params.y = out.data;
  } else {
    params.g = out.data;
  }
  params.x = in.data;
  params.weight = kernel.data;
  return params;
}

template <class Params>
Params packed(const char* op, const char* name, py::handle y, py::handle x, py::handle weight,
              const Axes& stride, const Axes& padding, const Axes& dilation, int threads) {
  return packed_params<Params>(op, name, conv_part(kCpuHome, op, y, name, Layout::kChannelsLast, 5),
                               conv_part(kCpuHome, op, x, "x", Layout::kChannelsLast, 5),
                               conv_part(kCpuHome, op, weight, "weight", Layout::kChannelsLast, 5),
                               stride, padding, dilation, threads);
}

void packed_fprop(py::handle x, py::handle weight, py::handle bias, py::handle y,
                  const Axes& stride, const Axes& padding, const Axes& dilation, int threads) {
  const char* op = "conv_packed_fprop";
  auto params =
      packed<ConvPackedFpropParams>(op, "y", y, x, weight, stride, padding, dilation, threads);
  params.bias = conv_bias(kCpuHome, op, bias, view_of(x, op, "x"), params.K);
  py::gil_scoped_release unlocked;
  cpu::conv_packed_fprop(params);
}

void packed_dgrad(py::handle g, py::handle weight, py::handle x, const Axes& stride,
                  const Axes& padding, const Axes& dilation, int threads) {
  const auto params = packed<ConvPackedDgradParams>("conv_packed_dgrad", "g", g, x, weight, stride,
                                                    padding, dilation, threads);
  py::gil_scoped_release unlocked;
  cpu::conv_packed_dgrad(params);
}

void packed_wgrad(py::handle g, py::handle x, py::handle weight, const Axes& stride,
                  const Axes& padding, const Axes& dilation, int threads) {
  const auto params = packed<ConvPackedWgradParams>("conv_packed_wgrad", "g", g, x, weight, stride,
                                                    padding, dilation, threads);
  py::gil_scoped_release unlocked;
  cpu::conv_packed_wgrad(params);
}

}  // namespace

void bind_conv3d(py::module_& module) {
  module.def("conv_single_fprop", &single_fprop, "Writes y.");
  module.def("conv_single_dgrad", &single_dgrad, "Writes x.");
  module.def("conv_single_wgrad", &single_wgrad, "Writes weight.");
  module.def("conv_packed_fprop", &packed_fprop, "Writes y.");
  module.def("conv_packed_dgrad", &packed_dgrad, "Writes x.");
  module.def("conv_packed_wgrad", &packed_wgrad, "Writes weight.");
}

}  // namespace fastgan::bindings
