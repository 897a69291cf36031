// Division by a number that the host knows, without a division: some twenty instructions where
// 64 bits take a hundred.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fastgan::cuda {

struct Divisor {
  uint64_t by;
  uint64_t inverse;  // floor((2^64 - 1) / by)

  // by: at least 1.
  explicit Divisor(int64_t by)
      : by(static_cast<uint64_t>(by)), inverse(~uint64_t{0} / static_cast<uint64_t>(by)) {}

  // n / by, for n from 0 on; *rest = n % by.
  __device__ int64_t quotient(int64_t n, int64_t* rest) const {
    const uint64_t value = static_cast<uint64_t>(n);
    // n (1 / by - inverse / 2^64) is below 1, so this one is right or one too low
    uint64_t found = __umul64hi(value, inverse);
    uint64_t left = value - found * by;
    if (left >= by) ++found, left -= by;
    *rest = static_cast<int64_t>(left);
    return static_cast<int64_t>(found);
  }
  __device__ int64_t remainder(int64_t n) const {
    int64_t rest;
    quotient(n, &rest);
    return rest;
  }
};

}  // namespace fastgan::cuda
