#pragma once

#include <cstdint>

#include "core/macros.h"

namespace fastgan {

// Quotient of whole numbers, rounded up; a is at least 0.
FASTGAN_FORMULA int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace fastgan
