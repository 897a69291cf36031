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

// A declaration for every level: *kernels.cpp defines it in the namespace of each, FASTGAN_ISA.
#define FASTGAN_DECLARE_PER_ISA(...) \
  namespace baseline {               \
  __VA_ARGS__                        \
  }                                  \
  namespace avx2 {                   \
  __VA_ARGS__                        \
  }                                  \
  namespace avx512 {                 \
  __VA_ARGS__                        \
  }

// Returns a call, made in the namespace of the level in use.
#if defined(__x86_64__)
#define FASTGAN_RETURN_BY_ISA(...)  \
  switch (isa()) {                  \
    case Isa::kAvx512:              \
      return avx512::__VA_ARGS__;   \
    case Isa::kAvx2:                \
      return avx2::__VA_ARGS__;     \
    default:                        \
      return baseline::__VA_ARGS__; \
  }
#else
#define FASTGAN_RETURN_BY_ISA(...) return baseline::__VA_ARGS__
#endif

}  // namespace fastgan::cpu
