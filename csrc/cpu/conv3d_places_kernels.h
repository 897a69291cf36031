// Inner loop of the forward and the input gradient of convolutions, compiled once per ISA level.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// Places of what is computed, 16 lanes each, and the rows of the operand that they meet by one row
// of taps; all float32.
struct ConvPlaces {
  int64_t run;          // elements of a row
  int64_t reach;        // rows that meet a place, one before the other in the operand
  int64_t count;        // places
  const int64_t* from;  // [count] elements of the operand before the last row that a place meets
  const int64_t* to;    // [count] elements before its sums
  const float* operand;
  const float* taps;  // [reach, run, 16]
};

// Places worked on side by side: where a row has few, those of several samples, whose taps are one.
constexpr int64_t kConvPlaces = 20;

// sums at every place += taps times operand
using ConvPlacesKernel = void (*)(const ConvPlaces& places, float* sums);

namespace baseline {
ConvPlacesKernel conv_places_kernel();
}
namespace avx2 {
ConvPlacesKernel conv_places_kernel();
}
namespace avx512 {
ConvPlacesKernel conv_places_kernel();
}

// The loop of the level in use.
inline ConvPlacesKernel conv_places_kernel() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kAvx512:
      return avx512::conv_places_kernel();
    case Isa::kAvx2:
      return avx2::conv_places_kernel();
    default:
      break;
  }
#endif
  return baseline::conv_places_kernel();
}

}  // namespace fastgan::cpu
