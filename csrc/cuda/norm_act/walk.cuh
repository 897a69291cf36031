// How the kernels of norm_act walk over [B, S, C] and [B, C, S] alike.
//
// row:   V elements of a thread side by side: channels of a voxel (channels last) or voxels of a
//        channel (channels first).
// slice: the voxels of one sample that one block takes, of a tile of channels.
// Slices depend on the shape alone, and their sums are added in their order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/ceil_div.h"
#include "core/norm_act.h"
#include "cuda/divisor.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "cuda/vec.cuh"

namespace fastgan::cuda {

constexpr int kNormThreads = 256;
// Blocks of a multiprocessor at least: 128 registers a thread. Left alone, the compiler spills a
// few to reach an occupancy that kernels bound by memory have no use for.
constexpr int kNormBlocks = 2;
// Threads side by side along the channels: as many rows as channels in a block of 256 would leave
// little to add up per thread.
constexpr int kMaxColumns = 64;

struct NormActGrid {
  // Elements of a block: enough rows a thread to hide the block's overhead in a large tensor,
  // enough blocks in a small one.
  static constexpr int64_t kMinElements = 2048, kMaxElements = 131072;
  // The finishing kernels read one partial sum a slice.
  static constexpr int64_t kMaxSlices = 1024;

  int64_t B, C, S, G;
  int64_t slice_voxels;  // a multiple of every V
  int64_t slices;
  int64_t tiles;                                   // of channels
  int64_t row_pitch;                               // elements from one row to the next
  int columns;                                     // threads side by side along the channels
  Divisor slices_by{1}, tiles_by{1}, group_by{1};  // by slices, tiles, channels of a group
  int lane_step;  // channels from one element of a row to the next: 1, or 0 channels first
  int V;

  NormActGrid(const NormActShape& shape, int V) : B(shape.B), C(shape.C), S(shape.S), G(shape.G) {
    const bool last = shape.layout == Layout::kChannelsLast;
    this->V = V;
    columns = last ? static_cast<int>(std::min<int64_t>(C / V, kMaxColumns)) : 1;
    tiles = last ? ceil_div(C, columns * V) : C;
    row_pitch = last ? C : V;
    lane_step = last ? 1 : 0;
    slice_voxels = slice_size(shape);
    slices = ceil_div(S, slice_voxels);
    slices_by = Divisor(slices), tiles_by = Divisor(tiles), group_by = Divisor(C / G);
  }

  // The same for every V, so that the workspace does not depend on the alignment of pointers.
  static int64_t slice_size(const NormActShape& shape) {
    const int64_t elements = shape.B * shape.C * shape.S;
    const int64_t take = std::clamp(elements / most_blocks(), kMinElements, kMaxElements);
    const bool last = shape.layout == Layout::kChannelsLast;
    // of the tiles of 16-byte accesses
    const int64_t most = kMaxColumns * (16 / element_size(shape.dtype));
    const int64_t width = last ? std::min(shape.C, most) : 1;
    const int64_t voxels = std::max(take / width, ceil_div(shape.S, kMaxSlices));
    return ceil_div(voxels, 8) * 8;
  }
  static int64_t count_slices(const NormActShape& shape) {
    return ceil_div(shape.S, slice_size(shape));
  }

  int64_t blocks() const { return B * tiles * slices; }
  // Channels of a block, before the last tile is cut.
  __host__ __device__ int width() const { return lane_step ? columns * V : 1; }
  // Rows that a block's threads take at a time.
  __host__ __device__ int rows_at_once() const { return kNormThreads / columns; }
  __host__ __device__ int64_t voxels_of(int64_t slice) const {
    const int64_t rest = S - slice * slice_voxels;
    return rest < slice_voxels ? rest : slice_voxels;
  }
};

// What one thread of one block takes.
struct NormActWalk {
  int64_t b, tile, slice;
  int64_t channel;  // of its first element
  int64_t at, end;  // offsets of its first row and behind its last; equal where it has none
  int64_t step;     // from one of its rows to the next
  int row;          // its first row, counted within the block
  bool participates;

  // block: of the grid; of what reads again what other blocks have just read, the last one first.
  __device__ NormActWalk(const NormActGrid& grid, int64_t block) {
    b = grid.tiles_by.quotient(grid.slices_by.quotient(block, &slice), &tile);
    const int column = static_cast<int>(threadIdx.x) % grid.columns;
    row = static_cast<int>(threadIdx.x) / grid.columns;
    channel = tile * grid.width() + column * grid.V * grid.lane_step;
    participates = row < grid.rows_at_once() && channel < grid.C;
    const int64_t first = slice * grid.slice_voxels, count = grid.voxels_of(slice);
    const bool last = grid.lane_step == 1;
    const int64_t begin =
        last ? (b * grid.S + first) * grid.C + channel : (b * grid.C + channel) * grid.S + first;
    at = begin + row * grid.row_pitch;
    end = participates ? begin + (last ? count * grid.C : count) : at;
    step = grid.rows_at_once() * grid.row_pitch;
  }
};

// Rows of up to three tensors, as they are read.
template <class T, int V, int kTensors>
struct NormActRow {
  Stored<T, V> of[kTensors];

  __device__ void values(int tensor, Compute<T> (&to)[V]) const {
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = value_of<T, V>(of[tensor], i);
  }
};

// Calls use(row, offset) for a thread's rows in their order. So many are read before the first of
// them is used: what the memory has under way at once decides its speed, and a loop that is merely
// unrolled asks before each read whether there is one.
template <int kRows, class T, int V, int kTensors, class Use>
__device__ __forceinline__ void for_rows(const NormActWalk& walk, const T* const (&from)[kTensors],
                                         const Use& use) {
  const auto read = [&](int64_t at) {
    NormActRow<T, V, kTensors> row;
#pragma unroll
    for (int k = 0; k < kTensors; ++k) {
      row.of[k] = from[k] ? load_stored<V>(from[k] + at) : Stored<T, V>{};
    }
    return row;
  };
  int64_t at = walk.at;
  for (; at + (kRows - 1) * walk.step < walk.end; at += kRows * walk.step) {
    NormActRow<T, V, kTensors> rows[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) rows[i] = read(at + i * walk.step);
#pragma unroll
    for (int i = 0; i < kRows; ++i) use(rows[i], at + i * walk.step);
  }
  for (; at < walk.end; at += walk.step) use(read(at), at);
}

// One value of a [C] or [B, C] parameter.
template <class A>
__device__ A affine_at(const NormActAffine& affine, A absent, int64_t b, int64_t c, int64_t C) {
  if (!affine.data) return absent;
  const int64_t index = affine.per_sample ? b * C + c : c;
  switch (affine.dtype) {
    case Dtype::kFloat64:
      return static_cast<A>(static_cast<const double*>(affine.data)[index]);
    case Dtype::kBFloat16:
      return load(static_cast<const BFloat16*>(affine.data)[index]);
    default:
      return static_cast<const float*>(affine.data)[index];
  }
}

// z = (x - mean) scale + bias for each element of a row, and kCount coefficients of its channel. A
// block finds the constants of its channels once, in shared memory: by each thread for each of its
// elements they would be more instructions than the rows of a small volume.
template <class A, int V, int kCount = 0>
struct NormActConstants {
  A mean[V], scale[V], bias[V], by[kCount + 1][V];

  // Elements of shared memory that it takes; free again after the next barrier.
  static size_t shared_bytes(const NormActGrid& grid) {
    return (3 + kCount) * grid.width() * sizeof(A);
  }

  // coefficients: [B, C, kCount]
  __device__ NormActConstants(const NormActGrid& grid, const NormActWalk& walk, const A* means,
                              const A* rstds, const NormActAffine& weight,
                              const NormActAffine& bias_parameter,
                              const A* coefficients = nullptr) {
    A* shared = shared_memory<A>();
    const int width = grid.width();
    for (int i = threadIdx.x; i < width; i += kNormThreads) {
      const int64_t c = walk.tile * width + i;
      if (c >= grid.C) break;
      int64_t rest;
      const int64_t group = walk.b * grid.G + grid.group_by.quotient(c, &rest);
      shared[i] = means[group];
      shared[width + i] = affine_at(weight, A(1), walk.b, c, grid.C) * rstds[group];
      shared[2 * width + i] = affine_at(bias_parameter, A(0), walk.b, c, grid.C);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        shared[(3 + k) * width + i] = coefficients[(walk.b * grid.C + c) * kCount + k];
      }
    }
    __syncthreads();
    if (!walk.participates) return;
    const int first = static_cast<int>(walk.channel - walk.tile * width);
    const auto take = [&](int row, A(&to)[V]) {
      const A* from = shared + row * width + first;
      if (!grid.lane_step) {
#pragma unroll
        for (int i = 0; i < V; ++i) to[i] = *from;
      } else if constexpr (V * sizeof(A) % 16 == 0) {
        constexpr int kW = 16 / sizeof(A);
#pragma unroll
        for (int i = 0; i < V; i += kW) {
          A part[kW];
          load_pack(from + i, part);
#pragma unroll
          for (int j = 0; j < kW; ++j) to[i + j] = part[j];
        }
      } else {
#pragma unroll
        for (int i = 0; i < V; ++i) to[i] = from[i];
      }
    };
    take(0, mean);
    take(1, scale);
    take(2, bias);
#pragma unroll
    for (int k = 0; k < kCount; ++k) take(3 + k, by[k]);
  }
};

// Calls pass(value of the storage type, V): the widest access if every row begins on a border of
// it.
template <class Pass>
cudaError_t by_row_width(const NormActShape& shape, bool aligned, const Pass& pass) {
  cudaError_t error = cudaErrorInvalidValue;
  by_dtype(shape.dtype, [&](auto type) {
    constexpr int kV = kWide<decltype(type)>;
    const int64_t side = shape.layout == Layout::kChannelsLast ? shape.C : shape.S;
    error = aligned && side % kV == 0 ? pass(type, std::integral_constant<int, kV>())
                                      : pass(type, std::integral_constant<int, 1>());
  });
  return error;
}

// [B, C, count, slices]: where a block leaves the sums of its slice.
template <class A>
__device__ A* partial_of(A* partial, const NormActGrid& grid, int64_t b, int64_t c, int count) {
  return partial + (b * grid.C + c) * count * grid.slices;
}

// Adds up kCount sums of every thread over the block, and leaves them in partial
// [B, C, kCount, slices]. Takes kCount * 256 * V elements of shared memory.
template <int kCount, int V, class A>
__device__ void write_partial_sums(const NormActGrid& grid, const NormActWalk& walk,
                                   A (&sums)[kCount][V], A* partial) {
  A* shared = shared_memory<A>();
  const int lanes = grid.lane_step ? V : 1;
  constexpr int kPitch = kNormThreads * V;
  __syncthreads();  // the constants have been read
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    if (!grid.lane_step) {
#pragma unroll
      for (int i = 1; i < V; ++i) sums[k][0] += sums[k][i];
    }
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < lanes) shared[k * kPitch + static_cast<int>(threadIdx.x) * lanes + i] = sums[k][i];
    }
  }
  const int width = grid.width();
  fold_rows<kNormThreads>(grid.rows_at_once(), width, [&](int a, int b) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) shared[k * kPitch + a] += shared[k * kPitch + b];
  });
  for (int i = threadIdx.x; i < width; i += kNormThreads) {
    const int64_t c = walk.tile * width + i;
    if (c >= grid.C) break;
    A* to = partial_of(partial, grid, walk.b, c, kCount);
    for (int k = 0; k < kCount; ++k) to[k * grid.slices + walk.slice] = shared[k * kPitch + i];
  }
}

}  // namespace fastgan::cuda
