// Inner loop of the input gradient of convolutions, compiled once per ISA level.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// Places of inputs, 16 lanes each, and the outputs that they meet by one row of taps; all float32.
struct ConvDgradPlaces {
  int64_t K;
  int64_t reach;        // outputs that meet a place, one before the other in g
  int64_t count;        // places
  const int64_t* from;  // [count] elements of g before the last output that a place meets
  const int64_t* to;    // [count] elements before its sums
  const float* g;
  const float* taps;  // [reach, K, 16]
};

// sums at every place += taps g
using ConvDgradKernel = void (*)(const ConvDgradPlaces& places, float* sums);

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
