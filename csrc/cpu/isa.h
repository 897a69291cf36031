// Which instruction set the CPU kernels use.
#pragma once

#include <string_view>

namespace fastgan::cpu {

enum class Isa : int { kBaseline, kAvx2, kAvx512 };

// The level in use: the best that this processor and this build have, unless set_isa() or the
// environment variable FASTGAN_ISA chose another.
Isa isa();

// Chooses "baseline", "avx2", "avx512" or "auto". Returns false, and changes nothing, for any other
// word or a level that the processor or the build lacks. For tests and measurements.
bool set_isa(std::string_view name);

// "baseline", "avx2" or "avx512".
const char* isa_name(Isa level);

// Whether the processor and the build have a level.
bool isa_available(Isa level);

}  // namespace fastgan::cpu
