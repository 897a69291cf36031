// Launchers of norm_act on a GPU; contracts in core/norm_act.h, whose `threads` they ignore.
// Pointers are to device memory. Each returns a cudaError_t, works on the current device and the
// stream, and neither allocates nor waits. Results depend on the shape alone, never on timing.
#pragma once

#include <cstdint>

#include "core/norm_act.h"

namespace fastgan::cuda {

// Bytes of scratch memory of the three passes, 16-byte aligned; what it holds before is of no
// matter.
int64_t norm_act_fwd_workspace(const NormActShape& shape);
int64_t norm_act_bwd_workspace(const NormActShape& shape);
int64_t norm_act_bwd_bwd_workspace(const NormActShape& shape);

int norm_act_fwd(const NormActFwdParams& params, void* workspace, void* stream);
// mean and rstd alone, in the workspace of the forward.
int norm_act_statistics(const NormActFwdParams& params, void* workspace, void* stream);
// y from mean and rstd; needs no workspace.
int norm_act_apply(const NormActFwdParams& params, void* stream);
int norm_act_bwd(const NormActBwdParams& params, void* workspace, void* stream);
int norm_act_bwd_bwd(const NormActBwdBwdParams& params, void* workspace, void* stream);

}  // namespace fastgan::cuda
