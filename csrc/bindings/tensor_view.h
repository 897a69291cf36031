// What a kernel needs to know of a tensor, read without the framework's headers.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/layout.h"

namespace fastgan::bindings {

// Pointer, sizes and strides, valid while the Python object lives and keeps its storage.
struct TensorView {
  static constexpr int kMaxDims = 8;

  void* data = nullptr;
  int ndim = 0;
  std::array<int64_t, kMaxDims> sizes{};
  std::array<int64_t, kMaxDims> strides{};  // in elements
  std::optional<Dtype> dtype;               // empty: one that no kernel takes
  bool cpu = false;
  bool cuda = false;
  int device = -1;  // index of a CUDA device

  int64_t numel() const;
  // Contiguous with the dimensions in order, or with dimension 1 moved to the end.
  bool contiguous(Layout layout = Layout::kChannelsFirst) const;
  // "float32 [2, 3, 4] on cpu" or "... on cuda:0", for messages.
  std::string describe() const;
};

// Reads a tensor through torch's DLPack exchange interface where its type has one of major version
// 1, else through data_ptr(), shape, stride(), dtype and device. Raises TypeError for other
// objects, ValueError for sizes that no memory holds and for storage that was freed or cut.
TensorView view_of(pybind11::handle object, const char* op, const char* name);

// Which tensors an entry's kernels reach.
struct Home {
  bool (*holds)(const TensorView& view);
  const char* name;  // "on the CPU"
};
extern const Home kCpuHome;

// The product of numbers of at least 0, or -1 where it exceeds what 8-byte elements can address.
int64_t checked_product(const int64_t* factors, int count);

// Threads to start where `asked` are allowed: at least one, never so many that a system refuses.
int bounded_threads(int asked);

// "[2, 3]"
std::string shape_text(const int64_t* sizes, int ndim);

// Raises ValueError or TypeError: "op: rule, got what".
[[noreturn]] void fail_value(const std::string& op, const std::string& rule,
                             const std::string& got);
[[noreturn]] void fail_type(const std::string& op, const std::string& rule, const std::string& got);

}  // namespace fastgan::bindings
