// Inner loop of the weight gradient of convolutions, compiled once per ISA level.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// One block of outputs, and the inputs that one tap meets there; all float32.
struct ConvWgradBlock {
  int64_t outputs;
  int64_t channels;     // output channels
  const int64_t* of_g;  // [outputs] elements of g before the channels of each output
  const int64_t* of_x;  // [outputs] elements of x before its 16 lanes
  const float* g;
  const float* x;
};

// sums [channels, 16] += g x over the outputs of the block, which are added in float32
using ConvWgradKernel = void (*)(const ConvWgradBlock& block, float* sums);

namespace baseline {
ConvWgradKernel conv_wgrad_kernel();
}
namespace avx2 {
ConvWgradKernel conv_wgrad_kernel();
}
namespace avx512 {
ConvWgradKernel conv_wgrad_kernel();
}

// The loop of the level in use.
inline ConvWgradKernel conv_wgrad_kernel() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kAvx512:
      return avx512::conv_wgrad_kernel();
    case Isa::kAvx2:
      return avx2::conv_wgrad_kernel();
    default:
      break;
  }
#endif
  return baseline::conv_wgrad_kernel();
}

}  // namespace fastgan::cpu
