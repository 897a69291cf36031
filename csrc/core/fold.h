// Blocks of voxels as channels: a permutation, of elements of any size. Both volumes are channels
// last:
//   wide [B, D f0, H f1, W f2, C]   and   deep [B, D, H, W, f0, f1, f2, C]
#pragma once

#include <cstdint>

namespace fastgan {

struct FoldParams {
  int64_t B, C;
  int64_t size[3];    // D, H, W of the deep volume
  int64_t factor[3];  // f0, f1, f2, at least 1
  int64_t width;      // bytes of an element
  int threads;        // upper bound
  const void* from;   // wide for fold, deep for unfold
  void* to;           // the other, output
};

}  // namespace fastgan
