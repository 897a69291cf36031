// Loads and stores of V elements side by side as one access, computed in float or double.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/dtype.h"

namespace fastgan::cuda {

// Elements of a 16-byte access, the widest there is.
template <class T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));

template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};

// 16 bytes as four registers hold them.
using Words = Pack<uint32_t, 4>;

template <int V, class T>
__device__ __forceinline__ void load_pack(const T* __restrict__ from, Compute<T> (&to)[V]) {
  const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(from);
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = load(pack.at[i]);
}

// V elements as they are read: bfloat16 in pairs, which take half the registers of their values.
template <class T, int V>
using Stored =
    std::conditional_t<sizeof(T) == 2 && V % 2 == 0, Pack<uint32_t, (V + 1) / 2>, Pack<T, V>>;

template <int V, class T>
__device__ __forceinline__ Stored<T, V> load_stored(const T* from) {
  return *reinterpret_cast<const Stored<T, V>*>(from);
}

// Element i of them.
template <class T, int V>
__device__ __forceinline__ Compute<T> value_of(const Stored<T, V>& stored, int i) {
  if constexpr (sizeof(T) == 2 && V % 2 == 0) {
    const uint32_t pair = stored.at[i / 2];
    return __builtin_bit_cast(float, i % 2 ? pair & 0xffff0000u : pair << 16);
  } else {
    return load(stored.at[i]);
  }
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
// Two bfloat16 in one instruction.
__device__ __forceinline__ uint32_t round_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
#endif

// V elements as they are stored.
template <int V, class T>
__device__ __forceinline__ auto packed(const Compute<T> (&from)[V]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (sizeof(T) == 2 && V % 2 == 0) {
    Pack<uint32_t, V / 2> pairs;
#pragma unroll
    for (int i = 0; i < V / 2; ++i) pairs.at[i] = round_pair(from[2 * i], from[2 * i + 1]);
    return pairs;
  } else
#endif
  {
    Pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; ++i) store(pack.at[i], from[i]);
    return pack;
  }
}

// To shared memory.
template <int V, class T>
__device__ __forceinline__ void store_pack(T* __restrict__ to, const Compute<T> (&from)[V]) {
  const auto pack = packed<V, T>(from);
  using Packed = std::remove_const_t<decltype(pack)>;
  *reinterpret_cast<Packed*>(to) = pack;
}

// To global memory, as one access of 16 bytes: of a struct the compiler makes four of 4 bytes for
// half of the rows of a loop. Not for what the same kernel reads again: the compiler may move reads
// across, which is how several rows are under way at once.
template <int V, class T>
__device__ __forceinline__ void store_global(T* __restrict__ to, const Compute<T> (&from)[V]) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) * V == 16) {
    const auto words = __builtin_bit_cast(Words, packed<V, T>(from));
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(words.at[0]), "r"(words.at[1]), "r"(words.at[2]), "r"(words.at[3]));
    return;
  }
#endif
  store_pack(to, from);
}

// Whether 16-byte accesses may begin at each of the pointers; a null one never is accessed.
template <class... Pointers>
bool wide_aligned(const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace fastgan::cuda
