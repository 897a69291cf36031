// Convolutions with one input channel, and gradients of those with several, for Python. Outputs are
// allocated by the caller; see core/conv3d.h for the contract.
#include "cpu/conv3d.h"

#include <pybind11/stl.h>

#include <array>
#include <string>

#include "bindings/module.h"
#include "bindings/tensor_view.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

using Axes = std::array<int64_t, 3>;

TensorView part(const char* op, py::handle object, const char* name, Layout layout, int ndim) {
  const TensorView view = view_of(object, op, name);
  const bool dtype = view.dtype == Dtype::kFloat32 || view.dtype == Dtype::kBFloat16;
  if (!dtype) {
    fail_type(op, std::string(name) + " must be float32 or bfloat16", view.describe());
  }
  if (!view.cpu || view.ndim != ndim || !view.contiguous(layout)) {
    const char* rule = layout == Layout::kChannelsLast
                           ? " must be contiguous on the CPU, channels last"
                           : " must be contiguous on the CPU";
    fail_value(op, std::string(name) + rule, view.describe());
  }
  return view;
}

ConvSingleParams params_of(const char* op, py::handle x, py::handle weight, py::handle y,
                           const Axes& stride, const Axes& padding, int threads) {
  const TensorView in = part(op, x, "x", Layout::kChannelsFirst, 5);
  const TensorView kernel = part(op, weight, "weight", Layout::kChannelsFirst, 5);
  const TensorView out = part(op, y, "y", Layout::kChannelsLast, 5);
  ConvSingleParams params{};
  params.B = in.sizes[0];
  params.K = kernel.sizes[0];
  bool fits = in.sizes[1] == 1 && kernel.sizes[1] == 1 && out.sizes[0] == params.B &&
              out.sizes[1] == params.K && params.K % ConvSingleParams::kLanes == 0 &&
              in.dtype == kernel.dtype && in.dtype == out.dtype && in.numel() > 0 &&
              out.numel() > 0 && kernel.sizes[4] >= 3;
  for (int i = 0; i < 3; ++i) {
    params.in[i] = in.sizes[2 + i];
    params.out[i] = out.sizes[2 + i];
    params.kernel[i] = kernel.sizes[2 + i];
    params.stride[i] = stride[i];
    params.padding[i] = padding[i];
    const int64_t room = params.in[i] + 2 * padding[i] - params.kernel[i];
    fits = fits && params.kernel[i] >= 1 && params.kernel[i] <= ConvSingleParams::kMaxKernel &&
           (stride[i] == 1 || stride[i] == 2) && padding[i] >= 0 && room >= 0 &&
           params.out[i] == room / stride[i] + 1;
  }
  if (!fits) {
    fail_value(op, "x [B, 1, ...], weight [16 n, 1, ...] and y [B, 16 n, ...] must fit together",
               in.describe() + ", " + kernel.describe() + ", " + out.describe());
  }
  params.dtype = *in.dtype;
  params.threads = threads < 1 ? 1 : threads;
  params.x = in.data;
  params.weight = kernel.data;
  params.y = out.data;
  return params;
}

void fprop(py::handle x, py::handle weight, py::handle bias, py::handle y, const Axes& stride,
           const Axes& padding, int threads) {
  const char* op = "conv_single_fprop";
  ConvSingleParams params = params_of(op, x, weight, y, stride, padding, threads);
  if (!bias.is_none()) {
    const TensorView row = part(op, bias, "bias", Layout::kChannelsFirst, 1);
    if (row.dtype != params.dtype || row.sizes[0] != params.K) {
      fail_value(op, "bias must be [K], in the dtype of x", row.describe());
    }
    params.bias = row.data;
  }
  py::gil_scoped_release unlocked;
  cpu::conv_single_fprop(params);
}

void dgrad(py::handle y, py::handle weight, py::handle x, const Axes& stride, const Axes& padding,
           int threads) {
  const ConvSingleParams params =
      params_of("conv_single_dgrad", x, weight, y, stride, padding, threads);
  py::gil_scoped_release unlocked;
  cpu::conv_single_dgrad(params);
}

void wgrad(py::handle y, py::handle x, py::handle weight, const Axes& stride, const Axes& padding,
           int threads) {
  const ConvSingleParams params =
      params_of("conv_single_wgrad", x, weight, y, stride, padding, threads);
  py::gil_scoped_release unlocked;
  cpu::conv_single_wgrad(params);
}

// Geometry of a convolution of several channels, all tensors channels last.
template <class Params>
Params packed_params(const char* op, const TensorView& out, const TensorView& in,
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
    fits = fits && stride[i] >= 1 && padding[i] >= 0 && dilation[i] >= 1;
    const int64_t room = params.in[i] + 2 * padding[i] - dilation[i] * (params.kernel[i] - 1) - 1;
    fits = fits && room >= 0 && params.out[i] == room / stride[i] + 1;
  }
  if (!fits || !params.fills_lanes()) {
    fail_value(op, "g [B, K, ...], x [B, C, ...] and weight [K, C, ...] must fit together",
               out.describe() + ", " + in.describe() + ", " + kernel.describe());
  }
  params.dtype = *in.dtype;
  params.threads = threads < 1 ? 1 : threads;
  params.g = out.data;
  params.x = in.data;
  params.weight = kernel.data;
  return params;
}

template <class Params, void (*kPass)(const Params&)>
void packed(const char* op, py::handle g, py::handle x, py::handle weight, const Axes& stride,
            const Axes& padding, const Axes& dilation, int threads) {
  const auto params = packed_params<Params>(
      op, part(op, g, "g", Layout::kChannelsLast, 5), part(op, x, "x", Layout::kChannelsLast, 5),
      part(op, weight, "weight", Layout::kChannelsLast, 5), stride, padding, dilation, threads);
  py::gil_scoped_release unlocked;
  kPass(params);
}

void dgrad_packed(py::handle g, py::handle weight, py::handle x, const Axes& stride,
                  const Axes& padding, const Axes& dilation, int threads) {
  packed<ConvDgradParams, cpu::conv_dgrad>("conv_dgrad", g, x, weight, stride, padding, dilation,
                                           threads);
}

void wgrad_packed(py::handle g, py::handle x, py::handle weight, const Axes& stride,
                  const Axes& padding, const Axes& dilation, int threads) {
  packed<ConvWgradParams, cpu::conv_wgrad>("conv_wgrad", g, x, weight, stride, padding, dilation,
                                           threads);
}

}  // namespace

void bind_conv3d(py::module_& module) {
  module.def("conv_single_fprop", &fprop, "Writes y.");
  module.def("conv_single_dgrad", &dgrad, "Writes x.");
  module.def("conv_single_wgrad", &wgrad, "Writes weight.");
  module.def("conv_dgrad", &dgrad_packed, "Writes x.");
  module.def("conv_wgrad", &wgrad_packed, "Writes weight.");
}

}  // namespace fastgan::bindings
