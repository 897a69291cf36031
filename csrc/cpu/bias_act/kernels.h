// Inner loops of bias_act, compiled once per ISA level, over runs that start at a whole byte of
// bits.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

template <class T>
struct BiasActKernels {
  using A = Compute<T>;

  // bias [period] repeats over the run; period is a multiple of 8
  void (*fwd)(const T* x, const A* bias, int64_t period, int64_t size, A negative_slope, T* y,
              uint8_t* bits);

  void (*bwd)(const T* g, const uint8_t* bits, int64_t size, A negative_slope, T* d_x);
};

FASTGAN_DECLARE_PER_ISA(template <class T> BiasActKernels<T> bias_act_kernels();)

// The loops of the level in use.
template <class T>
BiasActKernels<T> bias_act_kernels() {
  FASTGAN_RETURN_BY_ISA(bias_act_kernels<T>());
}

}  // namespace fastgan::cpu
