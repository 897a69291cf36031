// Memory whose vectors of 16 float32 lie in one cache line each, and rows packed into it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include "core/dtype.h"

namespace fastgan::cpu {

constexpr std::align_val_t kCacheLine{64};

struct AlignedDelete {
  void operator()(float* memory) const { ::operator delete[](memory, kCacheLine); }
};

using AlignedFloats = std::unique_ptr<float[], AlignedDelete>;

// Uninitialised; throws std::bad_alloc.
inline AlignedFloats aligned_floats(int64_t size) {
  const size_t bytes = static_cast<size_t>(size) * sizeof(float);
  return AlignedFloats(static_cast<float*>(::operator new[](bytes, kCacheLine)));
}

// to [beside + size + beside] = from [size] with zeros on both sides.
template <class T>
void pack_padded(const T* from, int64_t size, int64_t beside, float* to) {
  std::fill_n(to, beside, 0.0f);
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) to[beside + i] = load(from[i]);
  std::fill_n(to + beside + size, beside, 0.0f);
}

}  // namespace fastgan::cpu
