// CPU implementation of norm_act; see core/norm_act.h for the contract of every pass.
#pragma once

#include "core/norm_act.h"

namespace fastgan::cpu {

// The three passes read their inputs twice: once to reduce, once to apply. Throws std::bad_alloc
// alone.
void norm_act_fwd(const NormActFwdParams& params);
// One half each of norm_act_fwd: without y, and with mean and rstd as inputs.
void norm_act_statistics(const NormActFwdParams& params);
void norm_act_apply(const NormActFwdParams& params);
void norm_act_bwd(const NormActBwdParams& params);
void norm_act_bwd_bwd(const NormActBwdBwdParams& params);

}  // namespace fastgan::cpu
