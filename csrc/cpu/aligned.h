// Memory whose vectors of 16 float32 lie in one cache line each.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

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

}  // namespace fastgan::cpu
