// Element types of tensors, and bfloat16 as storage.
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace fastgan {

enum class Dtype : int { kFloat32, kBFloat16, kFloat64, kFloat16, kInt64, kInt16, kInt8, kUInt8 };

// Those in which every kernel computes; the others are read by the searches alone.
FASTGAN_FORMULA bool computes(Dtype dtype) {
  return dtype == Dtype::kFloat32 || dtype == Dtype::kBFloat16 || dtype == Dtype::kFloat64;
}

FASTGAN_FORMULA int element_size(Dtype dtype) {
  switch (dtype) {
    case Dtype::kInt8:
    case Dtype::kUInt8:
      return 1;
    case Dtype::kBFloat16:
    case Dtype::kFloat16:
    case Dtype::kInt16:
      return 2;
    case Dtype::kFloat32:
      return 4;
    case Dtype::kFloat64:
    case Dtype::kInt64:
      return 8;
  }
  return 0;
}

// bfloat16 storage: the upper half of a float32. Computation is in float32.
struct BFloat16 {
  uint16_t bits;
};

// IEEE half as storage: sign, 5 bits of exponent, 10 of mantissa.
struct Float16 {
  uint16_t bits;
};

FASTGAN_FORMULA float load(float value) { return value; }
FASTGAN_FORMULA double load(double value) { return value; }
FASTGAN_FORMULA float load(BFloat16 value) {
  return __builtin_bit_cast(float, uint32_t{value.bits} << 16);
}
FASTGAN_FORMULA float load(Float16 value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16, rest = value.bits & 0x7fffu;
  // the exponent moves up by 127 - 15 by a multiplication, which also normalises subnormal numbers
  const float scaled = __builtin_bit_cast(float, rest << 13) * 0x1p112f;
  const uint32_t bits =
      rest >= 0x7c00u ? 0x7f800000u | rest << 13 : __builtin_bit_cast(uint32_t, scaled);
  return __builtin_bit_cast(float, sign | bits);
}

FASTGAN_FORMULA void store(float& to, float value) { to = value; }
FASTGAN_FORMULA void store(double& to, double value) { to = value; }
FASTGAN_FORMULA void store(BFloat16& to, float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  // round to nearest, ties to even; a NaN would round up to infinity
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to.bits = static_cast<uint16_t>(nan ? 0x7fc0u : rounded);
}

// Compute type of a storage type.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<BFloat16> {
  using type = float;
};
template <>
struct ComputeOf<Float16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

// Calls pass with a value of the storage type.
template <class Pass>
void by_dtype(Dtype dtype, const Pass& pass) {
  switch (dtype) {
    case Dtype::kFloat32:
      return pass(float());
    case Dtype::kBFloat16:
      return pass(BFloat16());
    case Dtype::kFloat64:
      return pass(double());
    default:
      return;  // the bindings let through what `computes` alone
  }
}

}  // namespace fastgan
