// What the passes of a convolution check, whether their kernels run on the CPU or on a GPU.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <string>

#include "bindings/tensor_view.h"
#include "core/conv3d.h"

namespace fastgan::bindings {

using Axes = std::array<int64_t, 3>;

// Places of a kernel along an axis less one, times the stride; negative where it does not fit or a
// number is larger than any axis, so that no sum or product can overflow.
inline int64_t conv_room(int64_t in, int64_t kernel, int64_t padding, int64_t dilation) {
  constexpr int64_t kMost = ConvSingleParams::kMaxAxis;
  if (std::min({in, kernel, dilation}) < 1 || padding < 0 ||
      std::max({kernel, padding, dilation}) > kMost) {
    return -1;
  }
  return in + 2 * padding - dilation * (kernel - 1) - 1;
}

// A float32 or bfloat16 tensor of so many dimensions, contiguous in its layout.
inline TensorView conv_part(const Home& home, const char* op, pybind11::handle object,
                            const char* name, Layout layout, int ndim) {
  const TensorView view = view_of(object, op, name);
  const bool dtype = view.dtype == Dtype::kFloat32 || view.dtype == Dtype::kBFloat16;
  if (!dtype) {
    fail_type(op, std::string(name) + " must be float32 or bfloat16", view.describe());
  }
  if (!home.holds(view) || view.ndim != ndim || !view.contiguous(layout)) {
    const char* rule = layout == Layout::kChannelsLast ? ", channels last" : "";
    fail_value(op, std::string(name) + " must be contiguous " + home.name + rule, view.describe());
  }
  return view;
}

// Data of a bias [K] in the dtype of x and beside it; null for None.
inline const void* conv_bias(const Home& home, const char* op, pybind11::handle object,
                             const TensorView& x, int64_t K) {
  if (object.is_none()) return nullptr;
  const TensorView row = conv_part(home, op, object, "bias", Layout::kChannelsFirst, 1);
  if (row.device != x.device || row.dtype != x.dtype || row.sizes[0] != K) {
    fail_value(op, "bias must be [K], in the dtype of x and beside it", row.describe());
  }
  return row.data;
}

// The checks of one call of a convolution between one channel and 16 n.
class ConvSingleCall {
 public:
  // x [B, 1, D, H, W], weight [K, 1, kD, kH, kW], y [B, K, D', H', W'] channels last
  ConvSingleCall(const Home& home, const char* op, pybind11::handle x, pybind11::handle weight,
                 pybind11::handle y, const Axes& stride, const Axes& padding, int threads)
      : home_(home), op_(op), x_(conv_part(home, op, x, "x", Layout::kChannelsFirst, 5)) {
    const TensorView kernel = conv_part(home, op, weight, "weight", Layout::kChannelsFirst, 5);
    const TensorView out = conv_part(home, op, y, "y", Layout::kChannelsLast, 5);
    params_.B = x_.sizes[0];
    params_.K = kernel.sizes[0];
    bool fits = x_.sizes[1] == 1 && kernel.sizes[1] == 1 && out.sizes[0] == params_.B &&
                out.sizes[1] == params_.K && params_.K % ConvSingleParams::kLanes == 0 &&
                beside_x(kernel) && beside_x(out) && x_.numel() > 0 && out.numel() > 0 &&
                kernel.sizes[4] >= 3;
    for (int i = 0; i < 3; ++i) {
      params_.in[i] = x_.sizes[2 + i];
      params_.out[i] = out.sizes[2 + i];
      params_.kernel[i] = kernel.sizes[2 + i];
      params_.stride[i] = stride[i];
      params_.padding[i] = padding[i];
      const int64_t room = conv_room(params_.in[i], params_.kernel[i], padding[i], 1);
      fits = fits && params_.kernel[i] <= ConvSingleParams::kMaxKernel &&
             (stride[i] == 1 || stride[i] == 2) && room >= 0 && padding[i] < params_.kernel[i] &&
             room <= ConvSingleParams::kMaxAxis && params_.out[i] == room / stride[i] + 1;
    }
    if (!fits) {
      fail_value(op, "x [B, 1, ...], weight [16 n, 1, ...] and y [B, 16 n, ...] must fit together",
                 x_.describe() + ", " + kernel.describe() + ", " + out.describe());
    }
    params_.dtype = *x_.dtype;
    params_.threads = bounded_threads(threads);
    params_.x = x_.data;
    params_.weight = kernel.data;
    params_.y = out.data;
  }

  const TensorView& view() const { return x_; }
  const ConvSingleParams& params() const { return params_; }

  // bias: [K] or None
  ConvSingleParams with_bias(pybind11::handle bias) const {
    ConvSingleParams params = params_;
    params.bias = conv_bias(home_, op_, bias, x_, params.K);
    return params;
  }

 private:
  bool beside_x(const TensorView& view) const {
    return view.device == x_.device && view.dtype == x_.dtype;
  }

  const Home& home_;
  const char* op_;
  TensorView x_;
  ConvSingleParams params_{};
};

}  // namespace fastgan::bindings
