// Parts of one piece of scratch memory, each on a 16-byte border.
#pragma once

#include <cstdint>

namespace fastgan::cuda {

class Arena {
 public:
  // Without memory it only counts.
  explicit Arena(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    char* part = memory_ ? memory_ + bytes_ : nullptr;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
    return reinterpret_cast<T*>(part);
  }

  int64_t bytes() const { return bytes_; }

 private:
  char* memory_;
  int64_t bytes_ = 0;
};

}  // namespace fastgan::cuda
