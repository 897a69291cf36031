#include "emulation/scheduler.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "emulation/fiber.h"
#include "emulation/memory.h"

namespace emulation {

Builtins builtins;

namespace {

constexpr int kInvalidValue = 1, kInvalidConfiguration = 9, kLaunchFailure = 719;
constexpr int kWarp = 32, kMaxThreads = kStacks;
constexpr size_t kBlocksUnderWay = 3;
// Kernels keep float, double and int there.
constexpr size_t kSharedGranule = 4;
// What a launch may ask for without cudaFuncSetAttribute.
constexpr size_t kMaxShared = 48 << 10;

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Block;

struct Thread : Fiber {
  Block* block;
  Self self;
  dim3 thread;
  State state = State::kReady;
  // of the barrier it waits at
  std::source_location where;
  const char* what = "";
  unsigned mask = 0;
  bool orders_memory = false;
  uint64_t value = 0;
  std::array<uint64_t, kWarp> received{};
};

struct Block {
  dim3 index;
  std::vector<Thread> threads;
  std::vector<int> ready;
  int live = 0;
  std::unique_ptr<char[]> shared;
  char* stacks;
};

std::mt19937_64 random_numbers;
std::string first_error;
std::vector<uintptr_t> streams;
const Launch* launch = nullptr;
Thread* running = nullptr;
uint32_t next_block = 1, first_block = 1;
bool failed = false;

size_t below(size_t n) { return random_numbers() % n; }

std::string place(const Thread& f) {
  return std::string(f.what) + " at " + f.where.file_name() + ":" + std::to_string(f.where.line());
}

bool same_place(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::string name(const Thread& f) {
  return "thread " + std::to_string(f.self.thread) + " of block " +
         std::to_string(f.self.block - first_block);
}

// What a fiber does.
void run_thread() {
  launch->entry(launch->argument);
  running->state = State::kDone;
  suspend(true);
}

void make_ready(Thread& f) {
  f.state = State::kReady;
  f.block->ready.push_back(f.self.thread);
}

// Lets the block go on where all of its threads that have not returned wait at one barrier.
void try_block_barrier(Block& block) {
  const Thread* first = nullptr;
  for (const Thread& f : block.threads) {
    if (f.state == State::kDone) continue;
    if (f.state != State::kAtBlockBarrier) return;
    if (first && !same_place(f.where, first->where)) {
      return fail(name(f) + " waits at " + place(f) + ", but " + name(*first) + " at " +
                  place(*first));
    }
    first = &f;
  }
  for (Thread& f : block.threads) {
    if (f.state == State::kDone) continue;
    ++f.self.epoch;
    make_ready(f);
  }
}

// Lets the lanes that `last` waits for go on where all of them have come to the same place.
void try_warp_barrier(Thread& last) {
  Block& block = *last.block;
  Thread* warp = &block.threads[last.self.warp * kWarp];
  const int lanes = std::min<int>(kWarp, int(block.threads.size()) - last.self.warp * kWarp);
  unsigned live = 0;
  for (int i = 0; i < lanes; ++i) live |= unsigned(warp[i].state != State::kDone) << i;
  if (last.mask & ~live) {
    return fail(name(last) + " waits at " + place(last) + " for lanes that have returned");
  }
  for (int i = 0; i < lanes; ++i) {
    if (!(last.mask >> i & 1)) continue;
    if (warp[i].state != State::kAtWarpBarrier) return;
    const bool same = warp[i].mask == last.mask && same_place(warp[i].where, last.where) &&
                      std::strcmp(warp[i].what, last.what) == 0;
    if (!same) {
      return fail(name(last) + " waits at " + place(last) + ", but " + name(warp[i]) + " at " +
                  place(warp[i]) + ", or for other lanes");
    }
  }
  for (int i = 0; i < lanes; ++i) {
    if (!(last.mask >> i & 1)) continue;
    for (int j = 0; j < lanes; ++j) warp[i].received[j] = warp[j].value;
    // a barrier of some of the lanes is taken to order nothing, which is stricter than CUDA
    if (last.orders_memory && last.mask == live) ++warp[i].self.warp_epoch;
    make_ready(warp[i]);
  }
}

std::unique_ptr<Block> start_block(uint64_t index) {
  auto block = std::make_unique<Block>();
  const dim3 grid = launch->grid, size = launch->block;
  block->index = dim3(unsigned(index % grid.x), unsigned(index / grid.x % grid.y),
                      unsigned(index / grid.x / grid.y));
  const unsigned count = size.x * size.y * size.z;
  block->stacks = take_stacks();
  block->threads.resize(count);
  block->ready.resize(count);
  block->live = int(count);
  for (unsigned t = 0; t < count; ++t) {
    Thread& f = block->threads[t];
    f.block = block.get();
    f.self = {first_block + uint32_t(index), 0, 0, uint16_t(t), uint16_t(t / kWarp)};
    f.thread = dim3(t % size.x, t / size.x % size.y, t / size.x / size.y);
    f.stack = block->stacks + kStack * t;
    block->ready[t] = int(t);
  }
  if (launch->shared_bytes) {
    block->shared.reset(new char[launch->shared_bytes]);
    std::memset(block->shared.get(), 0xff, launch->shared_bytes);  // NaN
    add_buffer(block->shared.get(), launch->shared_bytes, kSharedGranule, "shared memory", false);
  }
  return block;
}

void end_block(Block& block) {
  if (block.shared) remove_buffer(block.shared.get());
  return_stacks(block.stacks);
}

// Lets one random thread of the block run.
void step(Block& block) {
  if (block.ready.empty()) {
    std::string message = "no thread can go on:";
    int told = 0;
    for (const Thread& f : block.threads) {
      if (f.state != State::kDone && told++ < 3) message += " " + name(f) + " waits at " + place(f);
    }
    return fail(message);
  }
  std::swap(block.ready[below(block.ready.size())], block.ready.back());
  Thread& f = block.threads[block.ready.back()];
  block.ready.pop_back();
  running = &f;
  builtins = {f.thread, block.index, launch->block, launch->grid};
  resume(f, run_thread);
  running = nullptr;
  if (failed) return;
  if (f.state == State::kDone) --block.live;
  if (f.state == State::kAtWarpBarrier) {
    try_warp_barrier(f);
  } else if (block.live > 0) {
    try_block_barrier(block);
  }
}

// Waits for the lanes of the mask, all at the same place; returns the value of each lane.
const uint64_t* gather(unsigned mask, const char* what, uint64_t value, bool orders_memory,
                       std::source_location where) {
  Thread& f = *running;
  f.where = where;
  f.what = what;
  f.mask = mask;
  f.value = value;
  f.orders_memory = orders_memory;
  if (!(mask >> lane() & 1)) fail(name(f) + " calls " + place(f) + " outside its own mask");
  f.state = State::kAtWarpBarrier;
  suspend(false);
  return f.received.data();
}

}  // namespace

int run(const Launch& requested) {
  const dim3 g = requested.grid, b = requested.block;
  const uint64_t blocks = uint64_t(g.x) * g.y * g.z, threads = uint64_t(b.x) * b.y * b.z;
  if (blocks == 0 || threads == 0 || threads > kMaxThreads || g.x > 0x7fffffffu || g.y > 65535 ||
      g.z > 65535) {
    return kInvalidConfiguration;
  }
  if (requested.shared_bytes > kMaxShared) return kInvalidValue;
  streams.push_back(reinterpret_cast<uintptr_t>(requested.stream));
  launch = &requested;
  failed = false;
  first_block = next_block;
  next_block += uint32_t(blocks);
  exempt(requested.argument, requested.argument_bytes);
  std::vector<uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), uint64_t{0});
  std::shuffle(order.begin(), order.end(), random_numbers);
  std::vector<std::unique_ptr<Block>> under_way;
  while (!failed && (!order.empty() || !under_way.empty())) {
    if (!order.empty() && under_way.size() < kBlocksUnderWay) {
      under_way.push_back(start_block(order.back()));
      order.pop_back();
      continue;
    }
    auto& block = under_way[below(under_way.size())];
    // long enough a turn that the switch between blocks costs little
    for (size_t turn = below(64) + 1; turn > 0 && !failed && block->live > 0; --turn) step(*block);
    if (block->live == 0) {
      end_block(*block);
      std::swap(block, under_way.back());
      under_way.pop_back();
    }
  }
  for (auto& block : under_way) end_block(*block);
  launch = nullptr;
  return failed ? kLaunchFailure : 0;
}

std::string take_error() { return std::exchange(first_error, {}); }

std::vector<uintptr_t> take_streams() { return std::exchange(streams, {}); }

void seed(uint64_t value) { random_numbers.seed(value); }

namespace {
int64_t blocks_of_a_large_volume = 1024;
}
int64_t most_blocks() { return blocks_of_a_large_volume; }
void set_most_blocks(int64_t count) { blocks_of_a_large_volume = count; }

const Self* self() { return running ? &running->self : nullptr; }

uint32_t first_block_of_launch() { return first_block; }

bool on_own_stack(const void* address) {
  return static_cast<size_t>(static_cast<const char*>(address) - running->stack) < kStack;
}

int lane() { return running->self.thread % kWarp; }

void* shared_memory() { return running->block->shared.get(); }

void fail(const std::string& message) {
  if (first_error.empty()) first_error = message;
  failed = true;
  if (running) suspend(true);
}

void wait_for_block(std::source_location where) {
  running->where = where;
  running->what = "__syncthreads";
  running->state = State::kAtBlockBarrier;
  suspend(false);
}

void wait_for_warp(unsigned mask, std::source_location where) {
  gather(mask, "__syncwarp", 0, true, where);
}

uint64_t read_lane(unsigned mask, const char* what, uint64_t value, int source,
                   std::source_location where) {
  const uint64_t* values = gather(mask, what, value, false, where);
  if (!(mask >> source & 1)) {
    fail(name(*running) + " reads lane " + std::to_string(source) + " outside the mask of " +
         place(*running));
  }
  return values[source];
}

unsigned ballot(unsigned mask, bool bit, std::source_location where) {
  const uint64_t* values = gather(mask, "__ballot_sync", bit, false, where);
  unsigned bits = 0;
  for (int i = 0; i < kWarp; ++i) bits |= mask >> i & 1 ? unsigned(values[i]) << i : 0u;
  return bits;
}

}  // namespace emulation
