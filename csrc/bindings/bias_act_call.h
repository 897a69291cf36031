// What both passes of bias_act check, whether their kernels run on the CPU or on a GPU.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "bindings/tensor_view.h"
#include "core/bias_act.h"

namespace fastgan::bindings {

class BiasActCall {
 public:
  // x: [B, C, ...], or g likewise
  BiasActCall(const Home& home, const char* op, pybind11::handle x, const char* name,
              double negative_slope)
      : home_(home), op_(op), x_(view_of(x, op, name)), negative_slope_(negative_slope) {
    if (!home.holds(x_)) {
      fail_value(op, std::string(name) + " must be " + home.name, x_.describe());
    }
    if (!x_.dtype || !computes(*x_.dtype)) {
      fail_type(op, std::string(name) + " must be float32, bfloat16 or float64", x_.describe());
    }
    last_ = x_.contiguous(Layout::kChannelsLast);
    if (x_.ndim < 2 || (!last_ && !x_.contiguous())) {
      fail_value(op, std::string(name) + " must be [B, C, ...], channels first or last",
                 x_.describe());
    }
  }

  const TensorView& view() const { return x_; }

  BiasActFwdParams fwd(pybind11::handle bias, pybind11::handle y, pybind11::handle bits,
                       int threads) const {
    BiasActFwdParams params{};
    params.size = x_.numel();
    params.C = x_.sizes[1];
    params.run = last_ || params.size == 0 ? 1 : params.size / (x_.sizes[0] * params.C);
    params.dtype = *x_.dtype;
    params.threads = bounded_threads(threads);
    params.x = x_.data;
    params.bias = row(bias, params.C);
    params.negative_slope = negative_slope_;
    params.y = like_x(y, "y");
    params.bits = bits_of(bits, params.size);
    return params;
  }

  BiasActBwdParams bwd(pybind11::handle bits, pybind11::handle d_x, int threads) const {
    BiasActBwdParams params{};
    params.size = x_.numel();
    params.dtype = *x_.dtype;
    params.threads = bounded_threads(threads);
    params.g = x_.data;
    params.bits = bits_of(bits, params.size);
    params.negative_slope = negative_slope_;
    params.d_x = like_x(d_x, "d_x");
    return params;
  }

 private:
  bool beside_x(const TensorView& view) const {
    return home_.holds(view) && view.device == x_.device;
  }

  const void* row(pybind11::handle object, int64_t C) const {
    if (object.is_none()) return nullptr;
    const TensorView view = view_of(object, op_, "bias");
    if (!beside_x(view) || view.dtype != x_.dtype || view.ndim != 1 || view.sizes[0] != C ||
        !view.contiguous()) {
      fail_value(op_, "bias must be contiguous [C], in the dtype of x and beside it",
                 view.describe());
    }
    return view.data;
  }

  // A tensor of the sizes, dtype and strides of x.
  void* like_x(pybind11::handle object, const char* name) const {
    const TensorView view = view_of(object, op_, name);
    bool same = beside_x(view) && view.dtype == x_.dtype && view.ndim == x_.ndim;
    for (int i = 0; same && i < view.ndim; ++i) {
      same =
          view.sizes[i] == x_.sizes[i] && (view.sizes[i] == 1 || view.strides[i] == x_.strides[i]);
    }
    if (!same) {
      fail_value(op_, std::string(name) + " must be like " + x_.describe(), view.describe());
    }
    return view.data;
  }

  uint8_t* bits_of(pybind11::handle object, int64_t size) const {
    const TensorView view = view_of(object, op_, "bits");
    if (!beside_x(view) || view.dtype != Dtype::kUInt8 || view.ndim != 1 || !view.contiguous() ||
        view.sizes[0] != (size + 7) / 8) {
      fail_value(op_, "bits must be contiguous uint8 [" + std::to_string((size + 7) / 8) + "]",
                 view.describe());
    }
    return static_cast<uint8_t*>(view.data);
  }

  const Home& home_;
  const char* op_;
  TensorView x_;
  double negative_slope_;
  bool last_;
};

}  // namespace fastgan::bindings
