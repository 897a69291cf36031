// Bias and LeakyReLU: z = x + bias, y = z where z > 0 and negative_slope z elsewhere. The
// derivative needs one bit an element: bit i % 8 of byte i / 8 is set where z > 0, for element i in
// memory order. A NaN counts as not above zero. Results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/macros.h"

namespace fastgan {

struct BiasActFwdParams {
  int64_t size;  // elements of x
  int64_t C;     // channels
  int64_t run;   // elements of one channel side by side; 1: channels last
  Dtype dtype;
  int threads;       // upper bound
  const void* x;     // [size] input
  const void* bias;  // [C], like x; null: 0
  double negative_slope;
  void* y;        // [size] output
  uint8_t* bits;  // [(size + 7) / 8] output
};

// d_x = g where the bit is set and negative_slope g elsewhere.
struct BiasActBwdParams {
  int64_t size;
  Dtype dtype;
  int threads;
  const void* g;        // [size] gradient of y
  const uint8_t* bits;  // [(size + 7) / 8]
  double negative_slope;
  void* d_x;  // [size] output
};

}  // namespace fastgan
