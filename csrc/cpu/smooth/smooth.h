// CPU implementation of smooth; see core/smooth.h for the contract.
#pragma once

#include "core/smooth.h"

namespace fastgan::cpu {

// Reads each plane of x for three planes of y, which a cache holds; writes y once. Results do not
// depend on the threads.
void smooth(const SmoothParams& params);

}  // namespace fastgan::cpu
