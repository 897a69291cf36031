// Inner loops of convolutions with one input channel, compiled once per ISA level. Each works on
// one row of outputs; 16 lanes are channels, or in dgrad the 4 x 4 taps of a plane.
#pragma once

#include <cstdint>

#include "core/conv3d.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// One row of outputs: W' voxels of K channels, and the input rows that it touches.
struct ConvSingleRow {
  int64_t K, width;    // K, W'
  int64_t kernel[3];   // kD, kH, kW
  int64_t stride;      // along W
  int64_t plane, row;  // elements between planes and rows of the padded input
};

template <class T>
struct ConvSingleKernels {
  // y [width, K] from x, which points at the first tap; weight [K / 16, kD kH kW, 16], bias [K]
  void (*fprop)(const ConvSingleRow& r, const float* x, const float* weight, const float* bias,
                T* y);

  // to [kH, row] += taps of one plane; weight [K, 4, 4] with zeros beyond kH and kW; scratch
  // [width, 16]
  void (*dgrad)(const ConvSingleRow& r, const T* g, const float* weight, float* scratch, float* to);

  // sums [kD kH, K / 16, 4, 16] += g x
  void (*wgrad)(const ConvSingleRow& r, const T* g, const float* x, float* sums);
};

FASTGAN_DECLARE_PER_ISA(template <class T> ConvSingleKernels<T> conv_single_kernels();)

// The loops of the level in use.
template <class T>
ConvSingleKernels<T> conv_single_kernels() {
  FASTGAN_RETURN_BY_ISA(conv_single_kernels<T>());
}

}  // namespace fastgan::cpu
