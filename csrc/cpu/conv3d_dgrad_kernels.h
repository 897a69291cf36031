// Inner loop of the input gradient of convolutions, compiled once per ISA level.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// One row of outputs, through one row of taps, to a row of inputs; all float32.
struct ConvDgradRow {
  int64_t K;
  int64_t places;     // along W, of `pitch` elements of the inputs each
  int64_t pitch;      // stride C, a multiple of 16
  int64_t reach;      // outputs that meet a place, kW / stride
  const float* g;     // [places + reach - 1, K], zeros where there is no output
  const float* taps;  // [pitch / 16, reach, K, 16]
};

// to [places, pitch] += taps g
using ConvDgradKernel = void (*)(const ConvDgradRow& row, float* to);

namespace baseline {
ConvDgradKernel conv_dgrad_kernel();
}
namespace avx2 {
ConvDgradKernel conv_dgrad_kernel();
}
namespace avx512 {
ConvDgradKernel conv_dgrad_kernel();
}

// The loop of the level in use.
inline ConvDgradKernel conv_dgrad_kernel() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kAvx512:
      return avx512::conv_dgrad_kernel();
    case Isa::kAvx2:
      return avx2::conv_dgrad_kernel();
    default:
      break;
  }
#endif
  return baseline::conv_dgrad_kernel();
}

}  // namespace fastgan::cpu
