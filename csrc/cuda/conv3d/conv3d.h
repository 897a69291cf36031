// Launchers of convolutions between one channel and 16 n on a GPU; contracts in core/conv3d.h,
// whose `threads` they ignore. Pointers are to device memory. Each returns a cudaError_t, works on
// the current device and the stream, and neither allocates nor waits. Results depend on the shape
// alone, never on timing. A NaN or infinity reaches what it is multiplied with and nothing else.
#pragma once

#include <cstdint>

#include "core/conv3d.h"

namespace fastgan::cuda {

// y from x, weight and bias.
int conv_single_fprop(const ConvSingleParams& params, void* stream);
// x from y and weight.
int conv_single_dgrad(const ConvSingleParams& params, void* stream);

// Bytes of scratch memory of the weight gradient, 16-byte aligned; what it holds before is of no
// matter.
int64_t conv_single_wgrad_workspace(const ConvSingleParams& params);
// weight from y and x.
int conv_single_wgrad(const ConvSingleParams& params, void* workspace, void* stream);

}  // namespace fastgan::cuda
