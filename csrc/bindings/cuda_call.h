// What entries to CUDA kernels share: where tensors must be, and the launch itself. A build that
// runs the kernels on the CPU (csrc/emulation) has its own definitions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "bindings/tensor_view.h"

namespace fastgan::bindings {

extern const Home kCudaHome;

// Calls launch, which returns a cudaError_t, on the device of the tensor and without the
// interpreter lock. Raises RuntimeError with the operator's name and the error's text.
void launch_on(const TensorView& tensor, const char* op, const std::function<int()>& launch);

// A contiguous tensor of bytes beside another one, at least so many.
inline void* workspace_of(pybind11::handle object, const TensorView& beside, const char* op,
                          int64_t bytes) {
  const TensorView view = view_of(object, op, "workspace");
  if (!kCudaHome.holds(view) || view.device != beside.device || view.dtype != Dtype::kUInt8 ||
      !view.contiguous() || view.numel() < bytes || reinterpret_cast<uintptr_t>(view.data) % 16) {
    fail_value(op,
               "workspace must be " + std::to_string(bytes) +
                   " contiguous uint8 on a 16-byte border beside " + beside.describe(),
               view.describe());
  }
  return view.data;
}

inline void* stream_of(uintptr_t stream) { return reinterpret_cast<void*>(stream); }

}  // namespace fastgan::bindings
