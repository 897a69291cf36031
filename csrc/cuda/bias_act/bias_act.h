// Launchers of bias_act on a GPU; contracts in core/bias_act.h, whose `threads` they ignore.
// Pointers are to device memory. Each returns a cudaError_t, works on the current device and the
// stream, and neither allocates nor waits.
#pragma once

#include "core/bias_act.h"

namespace fastgan::cuda {

int bias_act_fwd(const BiasActFwdParams& params, void* stream);
int bias_act_bwd(const BiasActBwdParams& params, void* stream);

}  // namespace fastgan::cuda
