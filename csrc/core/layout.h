#pragma once

namespace fastgan {

// Order of the axes of a tensor in memory; S are all voxels.
enum class Layout : int {
  kChannelsLast,   // [B, S, C]
  kChannelsFirst,  // [B, C, S]
};

}  // namespace fastgan
