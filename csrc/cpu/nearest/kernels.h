// Inner loops of the search, compiled once per ISA level. Rows are worked on in chunks of features.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// Features of a chunk. 4 rows of float64 or 16 rows of int16 fit half the first-level cache; sums
// of squares of kNearestLevels int16 steps over a chunk fit 32 bits.
constexpr int64_t kNearestChunk = 512;
// Steps on either side of zero to which a chunk of a floating row is rounded.
constexpr int kNearestLevels = 2047;
// Queries and targets of a tile: 12 sums, two queries, a target and a product fill the 16 registers
// of AVX2; the third query is read from the cache where it is used.
constexpr int kNearestTileQueries = 3, kNearestTileTargets = 4;
// Target rows of a panel: whole tiles, and few enough for the bits of `within`.
constexpr int64_t kNearestPanel = 32;
// Ranges of features that are multiplied begin and end at multiples of the widest vector.
constexpr int64_t kNearestVector = 32;
constexpr int64_t kNearestLine = 64;  // bytes of a cache line
// Sums of 32 bits that the features of a range are dealt to, in the narrowest vector.
constexpr int64_t kNearestLanes = 4;

// A chunk of a row as int16, and what is lost: x = scale q + r.
struct NearestChunk {
  double scale;     // 0: too small or not finite, q is zero
  double squares;   // scale^2 sum(q^2), exact for integers
  double residual;  // >= |r|; 0 for integers
  int64_t largest;  // >= max |q|
  bool finite;
};

// Memory that is needed soon, in cache lines. It is asked for while something else is computed, as
// rows are read in pieces too short for the processor to see a pattern in them.
struct NearestAhead {
  const char* from = nullptr;
  int64_t rows = 0, pitch = 0;  // bytes between rows
  int64_t lines = 0;            // of a row
  int64_t size() const { return rows * lines; }
};

// The loops of one storage type. Rows are pointers to its elements.
struct NearestKernels {
  bool exact;       // integers
  int64_t element;  // bytes
  int64_t center;   // bytes of an element of the center; 0 for integers

  // to [kNearestChunk] = from [n], the rest zero
  void (*to_double)(const void* from, int64_t n, double* to);

  // sums[q * stride] += |x_q - y|^2 for `queries` rows x [queries, kNearestChunk]; y [n]. For every
  // query the same additions in the same order, however many there are.
  void (*direct)(const double* x, int64_t queries, const void* y, int64_t n, double* sums,
                 int64_t stride);

  // q [rows, kNearestChunk] and chunks [rows] of from [rows, n], whose rows lie `pitch` elements
  // apart; the rest of a chunk is zero. center [n] is taken off first; null for integers.
  void (*quantise)(const void* from, int64_t rows, int64_t pitch, const void* center, int64_t n,
                   int16_t* q, NearestChunk* chunks, const NearestAhead& ahead);

  // center [n] = mean of rows 0, step, ..., (rows - 1) step, which lie `pitch` elements apart
  void (*mean)(const void* from, int64_t rows, int64_t pitch, int64_t n, void* center);

  // sums [n] += from [n], squares [n] += the squares of from
  void (*moments)(const void* from, int64_t n, double* sums, double* squares);

  // Whether all of from [n] is finite.
  bool (*finite)(const void* from, int64_t n);
};

// The part that works on rounded rows.
struct NearestDotKernels {
  // sums [queries, targets] with `stride` += query_scale[q] * target_scale[j] * dot over features
  // [begin, end) of x [queries, kNearestChunk] and y [targets, kNearestChunk]. By the caller's
  // choice of range, sums of absolute products stay below 2^31 where the features are dealt to
  // kNearestLanes sums. x and y lie on cache lines; targets are a multiple of kNearestTileTargets,
  // begin and end of kNearestVector.
  void (*multiply)(const int16_t* x, int64_t queries, const int16_t* y, int64_t targets,
                   int64_t begin, int64_t end, const double* query_scale,
                   const double* target_scale, double* sums, int64_t stride,
                   const NearestAhead& ahead);

  // |x - y|^2 of [n] float32, never above the truth by more than a part in 10^5
  double (*coarse)(const float* x, const float* y, int64_t n);

  // Bit i < n: not (squares[i] - 2 dots[i] > limit). dots, squares [kNearestPanel]
  uint64_t (*within)(const double* dots, const double* squares, int64_t n, double limit);
};

FASTGAN_DECLARE_PER_ISA(NearestKernels nearest_kernels(Dtype dtype);
                        NearestDotKernels nearest_dot_kernels();)

// The loops of the level in use.
inline NearestKernels nearest_kernels(Dtype dtype) {
  FASTGAN_RETURN_BY_ISA(nearest_kernels(dtype));
}

inline NearestDotKernels nearest_dot_kernels() { FASTGAN_RETURN_BY_ISA(nearest_dot_kernels()); }

}  // namespace fastgan::cpu
