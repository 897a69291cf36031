// One function per group of bindings; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace fastgan::bindings {

void bind_bias_act(pybind11::module_& module);
void bind_build(pybind11::module_& module);
void bind_conv3d(pybind11::module_& module);
void bind_fold(pybind11::module_& module);
void bind_nearest(pybind11::module_& module);
void bind_norm_act(pybind11::module_& module);
void bind_smooth(pybind11::module_& module);

// On a GPU, into a module of their own.
void bind_bias_act_cuda(pybind11::module_& module);
void bind_conv3d_cuda(pybind11::module_& module);
void bind_norm_act_cuda(pybind11::module_& module);
void bind_slope_penalty_cuda(pybind11::module_& module);

}  // namespace fastgan::bindings
