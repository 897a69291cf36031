// CPU implementation of fold and unfold; see core/fold.h for the contract.
#pragma once

#include "core/fold.h"

namespace fastgan::cpu {

// Each reads its input and writes its output once. Results do not depend on the threads.
void fold(const FoldParams& params);
void unfold(const FoldParams& params);

}  // namespace fastgan::cpu
