// Inner loop of the forward and the input gradient of convolutions, compiled once per ISA level.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// Places of what is computed, 16 lanes each, and the rows of the operand that they meet by one row
// of taps; all float32.
struct ConvPackedPlaces {
  int64_t run;          // elements of a row
  int64_t reach;        // rows that meet a place, one before the other in the operand
  int64_t count;        // places
  const int64_t* from;  // [count] elements of the operand before the last row that a place meets
  const int64_t* to;    // [count] elements before its sums
  const float* operand;
  const float* taps;  // [reach, run, 16]
};

// Places worked on side by side: where a row has few, those of several samples, whose taps are one.
constexpr int64_t kConvPackedPlaces = 20;

// sums at every place += taps times operand
using ConvPackedPlacesKernel = void (*)(const ConvPackedPlaces& places, float* sums);

FASTGAN_DECLARE_PER_ISA(ConvPackedPlacesKernel conv_packed_places_kernel();)

// The loop of the level in use.
inline ConvPackedPlacesKernel conv_packed_places_kernel() {
  FASTGAN_RETURN_BY_ISA(conv_packed_places_kernel());
}

}  // namespace fastgan::cpu
