// Convolution between one channel and K: y = sum over taps of x weight (+ bias), and its two
// gradients. x is [B, D, H, W] with one channel, y is [B, D', H', W', K] channels last:
//   D' = (D + 2 padding - kernel) / stride + 1
// Sums are float32, of the weight gradient float64 over (sample, D') planes. Results do not depend
// on the number of threads. With three taps along W, a NaN or infinity in the gradient of y also
// reaches, on the CPU, the voxel behind its last tap.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/macros.h"

namespace fastgan {

struct ConvSingleParams {
  static constexpr int64_t kLanes = 16;  // K is a multiple
  static constexpr int64_t kMaxKernel = 4;
  static constexpr int64_t kMaxAxis = 1
                                      << 28;  // places along an axis: int counts what a tap reaches

  int64_t B, K;
  int64_t in[3];       // D, H, W
  int64_t out[3];      // D', H', W'
  int64_t kernel[3];   // 1 to 4 taps along D and H; 3 or 4 along W
  int64_t stride[3];   // 1 or 2
  int64_t padding[3];  // 0 to kernel - 1
  Dtype dtype;         // float32 or bfloat16, of every tensor
  int threads;         // upper bound
  void* x;             // [B, D, H, W]; output of dgrad
  void* weight;        // [K, kD, kH, kW]; output of wgrad
  const void* bias;    // [K], fprop only; null: 0
  void* y;             // [B, D', H', W', K]; output of fprop
};

// A convolution in one group of any channels, stride and padding; tensors are channels last:
//   x [B, D, H, W, C], weight [K, kD, kH, kW, C], y and its gradient g [B, D', H', W', K]
struct ConvPackedGeometry {
  static constexpr int64_t kLanes = 16;  // channels, or those of neighbours, worked on at once
  // Elements of x with its padding, of which copies are made, unless x itself is of that order.
  static constexpr int64_t kMaxPadded = int64_t{1} << 31;

  int64_t B, C, K;
  int64_t in[3];        // D, H, W
  int64_t out[3];       // D', H', W'
  int64_t kernel[3];    // kD, kH, kW
  int64_t stride[3];    // at least 1
  int64_t padding[3];   // at least 0
  int64_t dilation[3];  // at least 1
  Dtype dtype;          // float32 or bfloat16, of every tensor
  int threads;          // upper bound
};

// Forward. Lanes are output channels. Sums are float32, of one row of taps first. Results do not
// depend on the number of threads.
struct ConvPackedFpropParams : ConvPackedGeometry {
  // Whether K = 16 n, undilated along W.
  bool fills_lanes() const { return K >= 1 && K % kLanes == 0 && dilation[2] == 1; }

  const void* x;
  const void* weight;
  const void* bias;  // [K]; null: 0
  void* y;           // output
};

// Weight gradient. Sums are float32 over a slice of outputs, float64 over slices. Results do not
// depend on the number of threads.
struct ConvPackedWgradParams : ConvPackedGeometry {
  // Whether channels fill the lanes: C = 16 n, or C divides 16 and 16 / C divides kW, undilated.
  bool fills_lanes() const {
    if (C < 1 || C % kLanes == 0) return C >= 1;
    return kLanes % C == 0 && kernel[2] % (kLanes / C) == 0 && dilation[2] == 1;
  }

  const void* g;
  const void* x;
  void* weight;  // output
};

// Input gradient. Lanes are the channels of the `stride` neighbours that an output reaches by taps
// side by side. Sums are float32, of one row of taps first. Results do not depend on the number of
// threads.
struct ConvPackedDgradParams : ConvPackedGeometry {
  // Whether stride C = 16 n and the stride divides kW, undilated.
  bool fills_lanes() const {
    return C >= 1 && stride[2] * C % kLanes == 0 && kernel[2] % stride[2] == 0 && dilation[2] == 1;
  }

  const void* g;
  const void* weight;
  void* x;  // output
};

}  // namespace fastgan
