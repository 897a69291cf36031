#include <cstdint>
#include <type_traits>

#include "core/ceil_div.h"
#include "cuda/bias_act/bias_act.h"
#include "cuda/divisor.cuh"
#include "cuda/launch.cuh"
#include "cuda/vec.cuh"

namespace fastgan::cuda {
namespace {

constexpr int kThreads = 256;
// A row: the elements of one byte of bits.
constexpr int kBits = 8;
// Rows of a thread, a block's threads apart: four reads of 16 bytes, started together.
template <class T>
constexpr int kRows = 4 * kWide<T> / kBits;
// Elements from one row of a thread to the next.
constexpr int kStep = kThreads * kBits;

// The channels of a row: none that matter, one (channels first), or eight (channels last).
enum Channels : int { kNone = 0, kOne = 1, kEight = 2 };

template <class T>
struct FwdParams {
  int64_t first, rows;  // the kernel's own, counted from the beginning of x
  int64_t size;
  const T* x;     // [size]
  const T* bias;  // [C], null: 0
  Divisor C, run;
  int64_t C_step, run_step;  // kStep / run % C and kStep % run
  Compute<T> negative_slope;
  T* y;           // [size] output
  uint8_t* bits;  // [(size + 7) / 8] output
};

template <class T>
struct BwdParams {
  int64_t first, rows;
  int64_t size;
  const T* g;           // [size]
  const uint8_t* bits;  // [(size + 7) / 8]
  Compute<T> negative_slope;
  T* d_x;  // [size] output
};

// Where an element lies among channels.
struct Place {
  int64_t channel, in_run;

  template <class T>
  __device__ Place(const FwdParams<T>& p, int64_t at) {
    channel = p.C.remainder(p.run.quotient(at, &in_run));
  }
  // A number of elements on: step channels and rest elements of one.
  template <class T>
  __device__ void move(const FwdParams<T>& p, int64_t step, int64_t rest) {
    const int64_t C = static_cast<int64_t>(p.C.by), run = static_cast<int64_t>(p.run.by);
    in_run += rest;
    channel += step;
    if (in_run >= run) in_run -= run, ++channel;
    if (channel >= C) channel -= C;
  }
};

// A row as it is read, in 16-byte accesses, and its values.
template <class T>
struct Row {
  static constexpr int kParts = kBits / kWide<T>;
  Stored<T, kWide<T>> part[kParts];

  __device__ void read(const T* from) {
#pragma unroll
    for (int i = 0; i < kParts; ++i) part[i] = load_stored<kWide<T>>(from + i * kWide<T>);
  }
  __device__ Compute<T> value(int i) const {
    return value_of<T, kWide<T>>(part[i / kWide<T>], i % kWide<T>);
  }
};

template <class T>
__device__ __forceinline__ void write_row(T* to, const Compute<T> (&from)[kBits]) {
  constexpr int V = kWide<T>;
#pragma unroll
  for (int i = 0; i < kBits; i += V) {
    Compute<T> part[V];
#pragma unroll
    for (int j = 0; j < V; ++j) part[j] = from[i + j];
    store_global(to + i, part);
  }
}

// LeakyReLU in place; returns the bits.
template <class A>
__device__ __forceinline__ unsigned activate(A (&value)[kBits], A negative_slope) {
  unsigned bits = 0;
#pragma unroll
  for (int i = 0; i < kBits; ++i) {
    const bool above = value[i] > A(0);
    bits |= static_cast<unsigned>(above) << i;
    value[i] = above ? value[i] : negative_slope * value[i];
  }
  return bits;
}

template <class A>
__device__ __forceinline__ void slope(A (&value)[kBits], unsigned bits, A negative_slope) {
#pragma unroll
  for (int i = 0; i < kBits; ++i) value[i] *= bits >> i & 1 ? A(1) : negative_slope;
}

// The thread's first row.
template <class T>
__device__ int64_t first_row() {
  return static_cast<int64_t>(blockIdx.x) * kThreads * kRows<T> + threadIdx.x;
}

// Whole rows on 16-byte borders. One block per 256 kRows of them.
template <class T, int kChannels>
__global__ void __launch_bounds__(kThreads)
    bias_act_fwd_kernel(const __grid_constant__ FwdParams<T> p) {
  using A = Compute<T>;
  const int64_t first = first_row<T>();
  Row<T> rows[kRows<T>];
#pragma unroll
  for (int n = 0; n < kRows<T>; ++n) {
    const int64_t row = first + n * kThreads;
    if (row < p.rows) rows[n].read(p.x + row * kBits);
  }
  Place place(p, first * kBits);
#pragma unroll
  for (int n = 0; n < kRows<T>; ++n) {
    const int64_t row = first + n * kThreads;
    if (row >= p.rows) return;
    A value[kBits];
#pragma unroll
    for (int i = 0; i < kBits; ++i) value[i] = rows[n].value(i);
    if constexpr (kChannels == kOne) {
      const A bias = load(p.bias[place.channel]);
#pragma unroll
      for (int i = 0; i < kBits; ++i) value[i] += bias;
    } else if constexpr (kChannels == kEight) {
      Row<T> bias;
      bias.read(p.bias + place.channel);
#pragma unroll
      for (int i = 0; i < kBits; ++i) value[i] += bias.value(i);
    }
    if constexpr (kChannels != kNone) place.move(p, p.C_step, p.run_step);
    p.bits[row] = static_cast<uint8_t>(activate(value, p.negative_slope));
    write_row(p.y + row * kBits, value);
  }
}

// Whole rows on 16-byte borders. One block per 256 kRows of them.
template <class T>
__global__ void __launch_bounds__(kThreads)
    bias_act_bwd_kernel(const __grid_constant__ BwdParams<T> p) {
  using A = Compute<T>;
  const int64_t first = first_row<T>();
  Row<T> rows[kRows<T>];
  unsigned bits[kRows<T>];
#pragma unroll
  for (int n = 0; n < kRows<T>; ++n) {
    const int64_t row = first + n * kThreads;
    if (row < p.rows) rows[n].read(p.g + row * kBits), bits[n] = p.bits[row];
  }
#pragma unroll
  for (int n = 0; n < kRows<T>; ++n) {
    const int64_t row = first + n * kThreads;
    if (row >= p.rows) return;
    A value[kBits];
#pragma unroll
    for (int i = 0; i < kBits; ++i) value[i] = rows[n].value(i);
    slope(value, bits[n], p.negative_slope);
    write_row(p.d_x + row * kBits, value);
  }
}

// Elements of the one row of a thread that the kernels of single elements take; 0: no row.
template <class Params>
__device__ int elements_of(const Params& p, int64_t* row) {
  *row = p.first + static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t left = p.size - *row * kBits;
  return *row >= p.first + p.rows || left <= 0 ? 0 : left < kBits ? static_cast<int>(left) : kBits;
}

// What lies on no border, or ends within a row. One thread per row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    bias_act_fwd_single_kernel(const __grid_constant__ FwdParams<T> p) {
  using A = Compute<T>;
  int64_t row;
  const int count = elements_of(p, &row);
  if (count == 0) return;
  const int64_t at = row * kBits;
  A value[kBits];
#pragma unroll
  for (int i = 0; i < kBits; ++i) value[i] = i < count ? load(p.x[at + i]) : A(0);
  if (p.bias) {
    Place place(p, at);
    for (int i = 0; i < count; ++i) {
      value[i] += load(p.bias[place.channel]);
      place.move(p, 0, 1);
    }
  }
  p.bits[row] = static_cast<uint8_t>(activate(value, p.negative_slope));
#pragma unroll
  for (int i = 0; i < kBits; ++i) {
    if (i < count) store(p.y[at + i], value[i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    bias_act_bwd_single_kernel(const __grid_constant__ BwdParams<T> p) {
  using A = Compute<T>;
  int64_t row;
  const int count = elements_of(p, &row);
  if (count == 0) return;
  const int64_t at = row * kBits;
  A value[kBits];
#pragma unroll
  for (int i = 0; i < kBits; ++i) value[i] = i < count ? load(p.g[at + i]) : A(0);
  slope(value, p.bits[row], p.negative_slope);
#pragma unroll
  for (int i = 0; i < kBits; ++i) {
    if (i < count) store(p.d_x[at + i], value[i]);
  }
}

// The first `wide` rows by one kernel, the others by the other.
template <class T, class Params>
cudaError_t run(Params params, int64_t wide, void (*whole)(Params), void (*single)(Params),
                void* stream) {
  params.first = 0, params.rows = wide;
  const int64_t blocks = ceil_div(wide, kThreads * kRows<T>);
  const cudaError_t error = launch(whole, blocks, kThreads, 0, params, stream);
  if (error != cudaSuccess) return error;
  params.first = wide, params.rows = ceil_div(params.size, kBits) - wide;
  return launch(single, ceil_div(params.rows, kThreads), kThreads, 0, params, stream);
}

}  // namespace

int bias_act_fwd(const BiasActFwdParams& p, void* stream) {
  cudaError_t error = cudaErrorInvalidValue;
  by_dtype(p.dtype, [&](auto type) {
    using T = decltype(type);
    if (p.size == 0) {
      error = cudaSuccess;
      return;
    }
    const FwdParams<T> params{0,
                              0,
                              p.size,
                              static_cast<const T*>(p.x),
                              static_cast<const T*>(p.bias),
                              Divisor(p.C),
                              Divisor(p.run),
                              kStep / p.run % p.C,
                              kStep % p.run,
                              static_cast<Compute<T>>(p.negative_slope),
                              static_cast<T*>(p.y),
                              p.bits};
    const bool one = p.run % kBits == 0, eight = p.run == 1 && p.C % kBits == 0;
    const bool fits = !p.bias || one || (eight && wide_aligned(p.bias));
    const int64_t wide = fits && wide_aligned(p.x, p.y) ? p.size / kBits : 0;
    const auto whole = !p.bias ? bias_act_fwd_kernel<T, kNone>
                       : one   ? bias_act_fwd_kernel<T, kOne>
                               : bias_act_fwd_kernel<T, kEight>;
    error = run<T>(params, wide, whole, bias_act_fwd_single_kernel<T>, stream);
  });
  return error;
}

int bias_act_bwd(const BiasActBwdParams& p, void* stream) {
  cudaError_t error = cudaErrorInvalidValue;
  by_dtype(p.dtype, [&](auto type) {
    using T = decltype(type);
    const BwdParams<T> params{0,
                              0,
                              p.size,
                              static_cast<const T*>(p.g),
                              p.bits,
                              static_cast<Compute<T>>(p.negative_slope),
                              static_cast<T*>(p.d_x)};
    const int64_t wide = wide_aligned(p.g, p.d_x) ? p.size / kBits : 0;
    error = run<T>(params, wide, bias_act_bwd_kernel<T>, bias_act_bwd_single_kernel<T>, stream);
  });
  return error;
}

}  // namespace fastgan::cuda
