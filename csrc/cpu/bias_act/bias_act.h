// CPU implementation of bias_act; see core/bias_act.h for the contract.
#pragma once

#include "core/bias_act.h"

namespace fastgan::cpu {

// Each reads its inputs and writes its outputs once. Throws std::bad_alloc alone.
void bias_act_fwd(const BiasActFwdParams& params);
void bias_act_bwd(const BiasActBwdParams& params);

}  // namespace fastgan::cpu
