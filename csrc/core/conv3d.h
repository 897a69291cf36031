// Convolution between one channel and K: y = sum over taps of x weight (+ bias), and its two
// gradients. x is [B, D, H, W] with one channel, y is [B, D', H', W', K] channels last:
//   D' = (D + 2 padding - kernel) / stride + 1
// Sums are float32, of the weight gradient float64 over (sample, D') planes. Results do not depend
// on the number of threads. With three taps along W, a NaN or infinity in the gradient of y also
// reaches the voxel behind its last tap.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/macros.h"

namespace fastgan {

struct ConvSingleParams {
  static constexpr int64_t kLanes = 16;  // K is a multiple
  static constexpr int64_t kMaxKernel = 4;

  int64_t B, K;
  int64_t in[3];       // D, H, W
  int64_t out[3];      // D', H', W'
  int64_t kernel[3];   // 1 to 4 taps along D and H; 3 or 4 along W
  int64_t stride[3];   // 1 or 2
  int64_t padding[3];  // at least 0
  Dtype dtype;         // float32 or bfloat16, of every tensor
  int threads;         // upper bound
  void* x;             // [B, D, H, W]; output of dgrad
  void* weight;        // [K, kD, kH, kW]; output of wgrad
  const void* bias;    // [K], fprop only; null: 0
  void* y;             // [B, D', H', W', K]; output of fprop
};

// Weight gradient of a convolution in one group, any kernel, stride, padding and dilation; tensors
// are channels last. 16 input channels are worked on at once, or the fewer channels of neighbours
// along W. Sums are float32 over a slice of outputs, float64 over slices. Results do not depend on
// the number of threads.
struct ConvWgradParams {
  static constexpr int64_t kLanes = 16;

  // Whether C channels fill the lanes: C = 16 n, or C divides 16 and 16 / C divides kW, undilated.
  bool fills_lanes() const {
    if (C < 1 || C % kLanes == 0) return C >= 1;
    return kLanes % C == 0 && kernel[2] % (kLanes / C) == 0 && dilation[2] == 1;
  }

  int64_t B, C, K;
  int64_t in[3];        // D, H, W
  int64_t out[3];       // D', H', W'
  int64_t kernel[3];    // kD, kH, kW
  int64_t stride[3];    // at least 1
  int64_t padding[3];   // at least 0
  int64_t dilation[3];  // at least 1
  Dtype dtype;          // float32 or bfloat16, of every tensor
  int threads;          // upper bound
  const void* g;        // [B, D', H', W', K]
  const void* x;        // [B, D, H, W, C]
  void* weight;         // [K, kD, kH, kW, C], output
};

}  // namespace fastgan
