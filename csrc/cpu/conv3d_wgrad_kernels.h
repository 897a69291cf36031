// Inner loop of the weight gradient of convolutions, compiled once per ISA level.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// Packed float32 values of one block of outputs, and of the inputs that one tap meets there.
struct ConvWgradBlock {
  int64_t outputs;
  int64_t channels;      // output channels, the length of a row of g
  const int64_t* place;  // [outputs] elements of x before the 16 lanes of each output
  const float* g;        // [outputs, channels]
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
