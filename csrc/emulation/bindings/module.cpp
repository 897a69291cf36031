// The Python entries of the CUDA kernels over kernels that run on the CPU, and the emulation
// itself. One translation unit: pybind11 is read once.
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "bindings/bias_act_cuda.cpp"
#include "bindings/conv3d_cuda.cpp"
#include "bindings/norm_act_cuda.cpp"
#include "bindings/slope_penalty_cuda.cpp"
#include "bindings/tensor_view.cpp"
#include "emulation/memory.h"
#include "emulation/planted.h"
#include "emulation/scheduler.h"

namespace fastgan::bindings {

const Home kCudaHome{[](const TensorView& view) { return view.cpu; }, "on the CPU"};

void launch_on(const TensorView&, const char* op, const std::function<int()>& launch) {
  const int error = launch();
  const std::string reason = emulation::take_error();
  if (error != 0) {
    throw std::runtime_error(std::string(op) + ": " +
                             (reason.empty() ? "CUDA error " + std::to_string(error) : reason));
  }
}

}  // namespace fastgan::bindings

PYBIND11_MODULE(fastgan_emulated, module) {
  namespace py = pybind11;
  fastgan::bindings::bind_bias_act_cuda(module);
  fastgan::bindings::bind_conv3d_cuda(module);
  fastgan::bindings::bind_norm_act_cuda(module);
  fastgan::bindings::bind_slope_penalty_cuda(module);
  module.def("seed", &emulation::seed, "Sets the order in which threads and blocks run.");
  module.def("set_most_blocks", &emulation::set_most_blocks,
             "Sets how many blocks kernels cut a large volume into.");
  module.def(
      "add_buffer",
      [](uintptr_t begin, size_t bytes, size_t granule, const std::string& name, bool written) {
        emulation::add_buffer(reinterpret_cast<const void*>(begin), bytes, granule, name, written);
      },
      "Lets kernels touch a piece of memory.");
  module.def("remove_buffers", &emulation::remove_buffers);
  module.def("take_streams", &emulation::take_streams,
             "Streams of the launches since the last call.");
  module.def("planted", &planted::names, "Names of the planted kernels.");
  module.def(
      "run_planted",
      [](const std::string& name) {
        const int error = planted::run(name);
        const std::string reason = emulation::take_error();
        return error == 0 ? std::string() : reason.empty() ? "error" : reason;
      },
      "Runs one; returns what went wrong, or an empty text.");
}
