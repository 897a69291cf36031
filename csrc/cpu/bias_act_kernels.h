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

namespace baseline {
template <class T>
BiasActKernels<T> bias_act_kernels();
}
namespace avx2 {
template <class T>
BiasActKernels<T> bias_act_kernels();
}
namespace avx512 {
template <class T>
BiasActKernels<T> bias_act_kernels();
}

// The loops of the level in use.
template <class T>
BiasActKernels<T> bias_act_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kAvx512:
      return avx512::bias_act_kernels<T>();
    case Isa::kAvx2:
      return avx2::bias_act_kernels<T>();
    default:
      break;
  }
#endif
  return baseline::bias_act_kernels<T>();
}

}  // namespace fastgan::cpu
