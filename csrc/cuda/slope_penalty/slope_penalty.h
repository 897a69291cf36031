// Launchers of slope_penalty on a GPU; contracts in core/slope_penalty.h, pointers to device
// memory. Each returns a cudaError_t, works on the current device and the stream, and neither
// allocates nor waits, so that it may be captured in a CUDA graph.
#pragma once

#include <cstdint>

#include "core/slope_penalty.h"

namespace fastgan::cuda {

// Bytes of scratch memory of the forward.
int64_t slope_penalty_workspace(const SlopePenaltyShape& shape);

int slope_penalty_fwd(const SlopePenaltyFwdParams& params, void* workspace, void* stream);
int slope_penalty_bwd(const SlopePenaltyBwdParams& params, void* stream);
int slope_penalty_mix(const SlopePenaltyMixParams& params, void* stream);

}  // namespace fastgan::cuda
