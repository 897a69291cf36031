#include "bindings/module.h"

PYBIND11_MODULE(_C, module) {
  module.doc() = "Native kernels of fastgan; fastgan.ops.implementations is their only caller.";
  fastgan::bindings::bind_bias_act(module);
  fastgan::bindings::bind_build(module);
  fastgan::bindings::bind_conv3d(module);
  fastgan::bindings::bind_fold(module);
  fastgan::bindings::bind_nearest(module);
  fastgan::bindings::bind_norm_act(module);
  fastgan::bindings::bind_smooth(module);
#if FASTGAN_WITH_CUDA
  pybind11::module_ cuda = module.def_submodule("cuda", "The kernels that run on a GPU.");
  fastgan::bindings::bind_bias_act_cuda(cuda);
  fastgan::bindings::bind_conv3d_cuda(cuda);
  fastgan::bindings::bind_norm_act_cuda(cuda);
  fastgan::bindings::bind_slope_penalty_cuda(cuda);
#endif
}
