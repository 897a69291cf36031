#include <stdexcept>
#include <string>

#include "bindings/cuda_call.h"
#include "cuda/device.h"

namespace fastgan::bindings {

const Home kCudaHome{[](const TensorView& view) { return view.cuda; }, "on a CUDA device"};

void launch_on(const TensorView& tensor, const char* op, const std::function<int()>& launch) {
  int error = 0;
  {
    pybind11::gil_scoped_release unlocked;
    int before = 0;
    error = cuda::set_device(tensor.device, &before);
    if (error == 0) {
      error = launch();
      cuda::set_device(before, &before);
    }
  }
  if (error != 0) throw std::runtime_error(std::string(op) + ": " + cuda::error_text(error));
}

}  // namespace fastgan::bindings
