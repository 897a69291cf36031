// CPU implementation of convolutions where the library is weak; see core/conv3d.h for the contract.
#pragma once

#include "core/conv3d.h"

namespace fastgan::cpu {

// y from x and weight; x from y and weight; weight from y and x. Throws std::bad_alloc alone.
void conv_single_fprop(const ConvSingleParams& params);
void conv_single_dgrad(const ConvSingleParams& params);
void conv_single_wgrad(const ConvSingleParams& params);

// y from x and weight; weight from g and x; x from g and weight. Throw std::bad_alloc alone.
void conv_packed_fprop(const ConvPackedFpropParams& params);
void conv_packed_wgrad(const ConvPackedWgradParams& params);
void conv_packed_dgrad(const ConvPackedDgradParams& params);

}  // namespace fastgan::cpu
