// Inner loop of the weight gradient of convolutions, compiled once per ISA level.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// Packed float32 values of one block of outputs, and of the inputs that one tap meets there.
struct ConvWgradBlock {
  int64_t planes, rows, width;  // outputs
  int64_t channels;             // output channels, the length of a row of g
  int64_t plane, row, step;     // elements of x between planes, rows and voxels of outputs
  const float* g;               // [planes, rows, width, channels]
  const float* x;               // 16 lanes at every output, from the first one on
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
