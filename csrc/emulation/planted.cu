#include <cstdint>
#include <map>
#include <vector>

#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "emulation/memory.h"
#include "emulation/planted.h"

namespace planted {
namespace {

using fastgan::cuda::kFullWarp;
using fastgan::cuda::shared_memory;
using fastgan::cuda::warp_sum;

constexpr int kThreads = 64, kBlocks = 4;

struct Params {
  const int* in;  // [kBlocks * kThreads]
  int* out;       // [kBlocks * kThreads]
};

__device__ int index() { return static_cast<int>(blockIdx.x) * kThreads + threadIdx.x; }
__device__ int next() { return (threadIdx.x + 1) % kThreads; }

// What a neighbour has put into shared memory.
__global__ void right_neighbour(Params p) {
  int* shared = shared_memory<int>();
  shared[threadIdx.x] = p.in[index()];
  __syncthreads();
  p.out[index()] = shared[next()];
}

__global__ void missing_barrier(Params p) {
  int* shared = shared_memory<int>();
  shared[threadIdx.x] = p.in[index()];
  p.out[index()] = shared[next()];
}

__global__ void write_after_read(Params p) {
  int* shared = shared_memory<int>();
  shared[threadIdx.x] = p.in[index()];
  __syncthreads();
  const int value = shared[next()];
  shared[threadIdx.x] = value;  // the neighbour may not have read yet
  p.out[index()] = value;
}

__global__ void read_out_of_bounds(Params p) { p.out[index()] = p.in[index() + 1]; }

__global__ void write_out_of_bounds(Params p) { p.out[index() + 1] = p.in[index()]; }

__global__ void shared_out_of_bounds(Params p) {
  int* shared = shared_memory<int>();
  shared[threadIdx.x + 1] = p.in[index()];
}

__global__ void right_accumulation(Params p) { atomicAdd(p.out, p.in[index()]); }

__global__ void accumulation_without_atomics(Params p) {
  if (threadIdx.x == 0) *p.out += p.in[index()];
}

__global__ void right_shuffle(Params p) {
  p.out[index()] = warp_sum(p.in[index()]) + (__ballot_sync(kFullWarp, threadIdx.x % 2) & 1);
}

__global__ void shuffle_in_branch(Params p) {
  int value = p.in[index()];
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(kFullWarp, value, 1);
  p.out[index()] = value;
}

__global__ void shuffles_at_two_places(Params p) {
  int value = p.in[index()];
  if (threadIdx.x % 32 < 16) {
    value = __shfl_xor_sync(kFullWarp, value, 1);
  } else {
    value = __shfl_xor_sync(kFullWarp, value, 2);
  }
  p.out[index()] = value;
}

__global__ void shuffle_outside_its_mask(Params p) {
  p.out[index()] = __shfl_xor_sync(0xffffu, p.in[index()], 1);
}

__global__ void barrier_in_branch(Params p) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  p.out[index()] = p.in[index()];
}

__global__ void uninitialised_shared(Params p) {
  int* shared = shared_memory<int>();
  if (threadIdx.x > 0) shared[threadIdx.x] = p.in[index()];
  __syncthreads();
  p.out[index()] = shared[next()];
}

__global__ void right_warp_barrier(Params p) {
  int* shared = shared_memory<int>();
  shared[threadIdx.x] = p.in[index()];
  __syncwarp();
  p.out[index()] = shared[threadIdx.x ^ 1];
}

// The other warp is not held by this one's barrier.
__global__ void warp_barrier_for_a_block(Params p) {
  int* shared = shared_memory<int>();
  shared[threadIdx.x] = p.in[index()];
  __syncwarp();
  p.out[index()] = shared[(threadIdx.x + 32) % kThreads];
}

__global__ void misaligned(Params p) {
  const auto* pairs = reinterpret_cast<const int64_t*>(p.in + 1);
  p.out[index()] = static_cast<int>(*pairs);
}

// On its own stack, where only AddressSanitizer looks.
__global__ void own_array_out_of_bounds(Params p) {
  int own[4] = {};
  int* volatile array = own;
  array[p.in[index()] + 3] = 1;
  p.out[index()] = array[0];
}

const std::map<std::string, void (*)(Params)> kKernels{
    {"right neighbour", right_neighbour},
    {"right accumulation", right_accumulation},
    {"right shuffle", right_shuffle},
    {"right warp barrier", right_warp_barrier},
    {"missing barrier", missing_barrier},
    {"write after read", write_after_read},
    {"read out of bounds", read_out_of_bounds},
    {"write out of bounds", write_out_of_bounds},
    {"shared memory out of bounds", shared_out_of_bounds},
    {"accumulation without atomics", accumulation_without_atomics},
    {"shuffle in a branch", shuffle_in_branch},
    {"shuffles at two places", shuffles_at_two_places},
    {"shuffle outside its mask", shuffle_outside_its_mask},
    {"barrier in a branch", barrier_in_branch},
    {"uninitialised shared memory", uninitialised_shared},
    {"warp barrier for a block", warp_barrier_for_a_block},
    {"misaligned", misaligned},
    {"own array out of bounds", own_array_out_of_bounds},
};

}  // namespace

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& [name, kernel] : kKernels) all.push_back(name);
  return all;
}

int run(const std::string& name) {
  std::vector<int> in(kBlocks * kThreads, 1), out(kBlocks * kThreads, 0);
  emulation::add_buffer(in.data(), in.size() * sizeof(int), sizeof(int), "in", true);
  emulation::add_buffer(out.data(), out.size() * sizeof(int), sizeof(int), "out", true);
  const int error =
      fastgan::cuda::launch(kKernels.at(name), kBlocks, kThreads, kThreads * sizeof(int),
                            Params{in.data(), out.data()}, nullptr);
  emulation::remove_buffers();
  return error;
}

}  // namespace planted
