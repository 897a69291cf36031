// Inner loop of the weight gradient of convolutions, compiled once per ISA level.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// One block of outputs, and the inputs that one tap meets there; all float32.
struct ConvPackedWgradBlock {
  int64_t outputs;
  int64_t channels;     // output channels
  const int64_t* of_g;  // [outputs] elements of g before the channels of each output
  const int64_t* of_x;  // [outputs] elements of x before its 16 lanes
  const float* g;
  const float* x;
};

// sums [channels, 16] += g x over the outputs of the block, which are added in float32
using ConvPackedWgradKernel = void (*)(const ConvPackedWgradBlock& block, float* sums);

FASTGAN_DECLARE_PER_ISA(ConvPackedWgradKernel conv_packed_wgrad_kernel();)

// The loop of the level in use.
inline ConvPackedWgradKernel conv_packed_wgrad_kernel() {
  FASTGAN_RETURN_BY_ISA(conv_packed_wgrad_kernel());
}

}  // namespace fastgan::cpu
