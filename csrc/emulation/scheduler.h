// Runs the CUDA threads of a launch on one CPU thread, each a fiber with a stack of its own. Blocks
// start in a random order and several are under way at once; within them any thread that may run is
// next. Everything random follows from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

namespace emulation {

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// threadIdx and its like, of the CUDA thread that runs.
struct Builtins {
  dim3 thread, block, block_dim, grid_dim;
};
extern Builtins builtins;

struct Launch {
  dim3 grid, block;
  size_t shared_bytes;
  void (*entry)(void*);
  void* argument;  // of entry; holds the kernel's arguments
  size_t argument_bytes;
  void* stream;
};

// Runs a launch to its end. Returns a cudaError_t; `error()` then says what went wrong.
int run(const Launch& launch);

// The first error since the last call, or an empty text.
std::string take_error();
void seed(uint64_t value);
// What kernels cut a large volume into; 1024, as on a GPU, until it is set.
int64_t most_blocks();
void set_most_blocks(int64_t count);
// Streams of the launches since the last call, in their order.
std::vector<uintptr_t> take_streams();

// The place of the running CUDA thread in its launch; what orders its accesses.
struct Self {
  uint32_t block;       // counts up over all launches
  uint32_t epoch;       // block barriers passed
  uint32_t warp_epoch;  // warp barriers passed
  uint16_t thread, warp;
};
// Null outside kernels.
const Self* self();
uint32_t first_block_of_launch();
bool on_own_stack(const void* address);

int lane();
void* shared_memory();

// Ends the launch with an error. Does not return when called by a CUDA thread.
void fail(const std::string& message);

void wait_for_block(std::source_location where);
// The lanes of a mask, all at the same place: a barrier, one value from another lane, one bit of
// each.
void wait_for_warp(unsigned mask, std::source_location where);
uint64_t read_lane(unsigned mask, const char* what, uint64_t value, int source,
                   std::source_location where);
unsigned ballot(unsigned mask, bool bit, std::source_location where);

}  // namespace emulation
