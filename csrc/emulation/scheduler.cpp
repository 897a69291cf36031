#include "emulation/scheduler.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "emulation/memory.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

Builtins builtins;

namespace {

constexpr int kInvalidValue = 1, kInvalidConfiguration = 9, kLaunchFailure = 719;
constexpr size_t kStack = 64 << 10;
constexpr int kWarp = 32, kMaxThreads = 1024;
constexpr size_t kBlocksUnderWay = 3;
// Kernels keep float, double and int there.
constexpr size_t kSharedGranule = 4;
// What a launch may ask for without cudaFuncSetAttribute.
constexpr size_t kMaxShared = 48 << 10;

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Block;

struct Fiber {
  Block* block;
  Self self;
  dim3 thread;
  State state = State::kReady;
  char* stack;
  bool entered = false;
  // of the barrier it waits at
  std::source_location where;
  const char* what = "";
  unsigned mask = 0;
  bool orders_memory = false;
  uint64_t value = 0;
  std::array<uint64_t, kWarp> received{};
  ucontext_t context;
  jmp_buf jump;
};

struct Block {
  dim3 index;
  std::vector<Fiber> fibers;
  std::vector<int> ready;
  int live = 0;
  std::unique_ptr<char[]> shared;
  char* stacks;
};

std::mt19937_64 random_numbers;
std::string first_error;
std::vector<uintptr_t> streams;
const Launch* launch = nullptr;
Fiber* running = nullptr;
uint32_t next_block = 1, first_block = 1;
bool failed = false;
#ifdef __SANITIZE_ADDRESS__
ucontext_t scheduler_context;
// Stack of the scheduler, which is the caller's of `run`; as ASan tells it whenever a fiber goes
// on.
const void* scheduler_stack = nullptr;
size_t scheduler_stack_size = 0;
#else
jmp_buf scheduler_jump;
#endif

size_t below(size_t n) { return random_numbers() % n; }

std::string place(const Fiber& f) {
  return std::string(f.what) + " at " + f.where.file_name() + ":" + std::to_string(f.where.line());
}

bool same_place(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::string name(const Fiber& f) {
  return "thread " + std::to_string(f.self.thread) + " of block " +
         std::to_string(f.self.block - first_block);
}

// Stacks of the fibers of a block; kept for the next one.
std::vector<char*> free_stacks;

char* take_stacks() {
  if (free_stacks.empty()) {
    void* memory = mmap(nullptr, kStack * kMaxThreads, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    free_stacks.push_back(static_cast<char*>(memory));
  }
  char* stacks = free_stacks.back();
  free_stacks.pop_back();
  return stacks;
}

void suspend(bool forever);

void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
  launch->entry(launch->argument);
  running->state = State::kDone;
  suspend(true);
}

// Runs a fiber until it waits or ends. swapcontext enters the kernel for the signal mask each time;
// _longjmp does not, but confuses AddressSanitizer.
void resume(Fiber& f) {
  running = &f;
  builtins = {f.thread, f.block->index, launch->block, launch->grid};
  if (!f.entered) {
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack;
    f.context.uc_stack.ss_size = kStack;
    f.context.uc_link = nullptr;
    makecontext(&f.context, fiber_main, 0);
  }
#ifdef __SANITIZE_ADDRESS__
  f.entered = true;
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, f.stack, kStack);
  swapcontext(&scheduler_context, &f.context);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#else
  if (_setjmp(scheduler_jump) == 0) {
    if (running->entered) _longjmp(running->jump, 1);
    running->entered = true;
    setcontext(&running->context);
  }
#endif
  running = nullptr;
}

void suspend(bool forever) {
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(forever ? nullptr : &fake_stack, scheduler_stack,
                                 scheduler_stack_size);
  swapcontext(&running->context, &scheduler_context);
  __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack, &scheduler_stack_size);
#else
  if (forever) _longjmp(scheduler_jump, 1);
  if (_setjmp(running->jump) == 0) _longjmp(scheduler_jump, 1);
#endif
}

void make_ready(Fiber& f) {
  f.state = State::kReady;
  f.block->ready.push_back(f.self.thread);
}

// Lets the block go on where all of its threads that have not returned wait at one barrier.
void try_block_barrier(Block& block) {
  const Fiber* first = nullptr;
  for (const Fiber& f : block.fibers) {
    if (f.state == State::kDone) continue;
    if (f.state != State::kAtBlockBarrier) return;
    if (first && !same_place(f.where, first->where)) {
      return fail(name(f) + " waits at " + place(f) + ", but " + name(*first) + " at " +
                  place(*first));
    }
    first = &f;
  }
  for (Fiber& f : block.fibers) {
    if (f.state == State::kDone) continue;
    ++f.self.epoch;
    make_ready(f);
  }
}

// Lets the lanes that `last` waits for go on where all of them have come to the same place.
void try_warp_barrier(Fiber& last) {
  Block& block = *last.block;
  Fiber* warp = &block.fibers[last.self.warp * kWarp];
  const int lanes = std::min<int>(kWarp, int(block.fibers.size()) - last.self.warp * kWarp);
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
  const unsigned threads = size.x * size.y * size.z;
  block->stacks = take_stacks();
  block->fibers.resize(threads);
  block->ready.resize(threads);
  block->live = int(threads);
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& f = block->fibers[t];
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
  free_stacks.push_back(block.stacks);
}

// Lets one random thread of the block run.
void step(Block& block) {
  if (block.ready.empty()) {
    std::string message = "no thread can go on:";
    int told = 0;
    for (const Fiber& f : block.fibers) {
      if (f.state != State::kDone && told++ < 3) message += " " + name(f) + " waits at " + place(f);
    }
    return fail(message);
  }
  std::swap(block.ready[below(block.ready.size())], block.ready.back());
  Fiber& f = block.fibers[block.ready.back()];
  block.ready.pop_back();
  resume(f);
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
  Fiber& f = *running;
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
