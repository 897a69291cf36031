// Binomial filter (1, 2, 1) / 4 along each spatial axis; outside, the edge voxel goes on. As a
// matrix it is symmetric, so it is its own derivative.
//   x, y [B, D, H, W, C]
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace fastgan {

// Every axis is summed in the compute type; y is rounded once.
struct SmoothParams {
  int64_t B, C;
  int64_t size[3];  // D, H, W
  Dtype dtype;      // float32, bfloat16 or float64
  int threads;      // upper bound
  const void* x;
  void* y;  // output, apart from x
};

}  // namespace fastgan
