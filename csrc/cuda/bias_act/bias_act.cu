#include <cstdint>

#include "core/ceil_div.h"
#include "cuda/bias_act/bias_act.h"
#include "cuda/launch.cuh"
#include "cuda/vec.cuh"

namespace fastgan::cuda {
namespace {

constexpr int kThreads = 256;
// A thread takes the elements of one byte of bits.
constexpr int kBits = 8;

template <class T>
struct FwdParams {
  int64_t size, C, run;
  const T* x;     // [size]
  const T* bias;  // [C], null: 0
  Compute<T> negative_slope;
  T* y;           // [size] output
  uint8_t* bits;  // [(size + 7) / 8] output
  bool aligned;
};

template <class T>
struct BwdParams {
  int64_t size;
  const T* g;           // [size]
  const uint8_t* bits;  // [(size + 7) / 8]
  Compute<T> negative_slope;
  T* d_x;  // [size] output
  bool aligned;
};

// Eight elements, of which `count` are there, as one, two or four wide accesses where they can be.
template <class T>
__device__ __forceinline__ void load_byte(const T* from, int count, bool aligned,
                                          Compute<T> (&to)[kBits]) {
  constexpr int V = kWide<T> < kBits ? kWide<T> : kBits;
  if (aligned && count == kBits) {
#pragma unroll
    for (int i = 0; i < kBits; i += V) {
      Compute<T> part[V];
      load_pack(from + i, part);
#pragma unroll
      for (int j = 0; j < V; ++j) to[i + j] = part[j];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kBits; ++i) to[i] = i < count ? load(from[i]) : Compute<T>(0);
  }
}

template <class T>
__device__ __forceinline__ void store_byte(T* to, int count, bool aligned,
                                           const Compute<T> (&from)[kBits]) {
  constexpr int V = kWide<T> < kBits ? kWide<T> : kBits;
  if (aligned && count == kBits) {
#pragma unroll
    for (int i = 0; i < kBits; i += V) {
      Compute<T> part[V];
#pragma unroll
      for (int j = 0; j < V; ++j) part[j] = from[i + j];
      store_pack(to + i, part);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kBits; ++i) {
      if (i < count) store(to[i], from[i]);
    }
  }
}

__device__ __forceinline__ int elements_from(int64_t at, int64_t size) {
  return size - at < kBits ? static_cast<int>(size - at) : kBits;
}

// One thread per byte of bits.
template <class T>
__global__ void __launch_bounds__(kThreads)
    bias_act_fwd_kernel(const __grid_constant__ FwdParams<T> p) {
  using A = Compute<T>;
  const int64_t byte = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t at = byte * kBits;
  if (at >= p.size) return;
  const int count = elements_from(at, p.size);
  A value[kBits];
  load_byte(p.x + at, count, p.aligned, value);
  if (p.bias) {
    // one division a thread; then channel and place in its run move on with the element
    int64_t channel = at / p.run, place = at - channel * p.run;
    channel %= p.C;
#pragma unroll
    for (int i = 0; i < kBits; ++i) {
      value[i] += load(p.bias[channel]);
      if (++place == p.run) {
        place = 0;
        channel = channel + 1 == p.C ? 0 : channel + 1;
      }
    }
  }
  unsigned bits = 0;
#pragma unroll
  for (int i = 0; i < kBits; ++i) {
    const bool above = value[i] > A(0);
    if (i < count) bits |= static_cast<unsigned>(above) << i;
    value[i] = above ? value[i] : p.negative_slope * value[i];
  }
  store_byte(p.y + at, count, p.aligned, value);
  p.bits[byte] = static_cast<uint8_t>(bits);
}

// One thread per byte of bits.
template <class T>
__global__ void __launch_bounds__(kThreads)
    bias_act_bwd_kernel(const __grid_constant__ BwdParams<T> p) {
  using A = Compute<T>;
  const int64_t byte = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t at = byte * kBits;
  if (at >= p.size) return;
  const int count = elements_from(at, p.size);
  A value[kBits];
  load_byte(p.g + at, count, p.aligned, value);
  const unsigned bits = p.bits[byte];
#pragma unroll
  for (int i = 0; i < kBits; ++i) value[i] *= bits >> i & 1 ? A(1) : p.negative_slope;
  store_byte(p.d_x + at, count, p.aligned, value);
}

int64_t blocks_of(int64_t size) { return ceil_div(ceil_div(size, kBits), kThreads); }

}  // namespace

int bias_act_fwd(const BiasActFwdParams& p, void* stream) {
  cudaError_t error = cudaErrorInvalidValue;
  by_dtype(p.dtype, [&](auto type) {
    using T = decltype(type);
    const FwdParams<T> params{p.size,
                              p.C,
                              p.run,
                              static_cast<const T*>(p.x),
                              static_cast<const T*>(p.bias),
                              static_cast<Compute<T>>(p.negative_slope),
                              static_cast<T*>(p.y),
                              p.bits,
                              wide_aligned(p.x, p.y)};
    error = launch(bias_act_fwd_kernel<T>, blocks_of(p.size), kThreads, 0, params, stream);
  });
  return error;
}

int bias_act_bwd(const BiasActBwdParams& p, void* stream) {
  cudaError_t error = cudaErrorInvalidValue;
  by_dtype(p.dtype, [&](auto type) {
    using T = decltype(type);
    const BwdParams<T> params{p.size,
                              static_cast<const T*>(p.g),
                              p.bits,
                              static_cast<Compute<T>>(p.negative_slope),
                              static_cast<T*>(p.d_x),
                              wide_aligned(p.g, p.d_x)};
    error = launch(bias_act_bwd_kernel<T>, blocks_of(p.size), kThreads, 0, params, stream);
  });
  return error;
}

}  // namespace fastgan::cuda
