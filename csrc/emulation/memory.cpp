#include "emulation/memory.h"

#include <map>
#include <memory>

#include "emulation/scheduler.h"

namespace emulation {
namespace {

// Who touched a granule last, and when. Of several readers at the same time, how far apart they
// are.
enum class Readers : uint8_t { kOneThread, kOneWarp, kOneBlock, kBlocks };

struct Stamp {
  Self by{};  // block 0: nobody
  Readers readers = Readers::kOneThread;
};

struct Granule {
  Stamp write, read;
  bool atomic = false;   // the last write
  bool written = false;  // ever
};

struct Buffer {
  const char* begin;
  size_t size;
  std::string name;
  size_t granule;
  std::unique_ptr<Granule[]> granules;
};

std::map<const char*, Buffer> buffers;
Buffer* last_found = nullptr;
const char* exempt_begin = nullptr;
size_t exempt_size = 0;

bool within(const char* address, const void* begin, size_t size) {
  return static_cast<size_t>(address - static_cast<const char*>(begin)) < size;
}

Buffer* find(const char* address) {
  if (last_found && within(address, last_found->begin, last_found->size)) return last_found;
  auto after = buffers.upper_bound(address);
  if (after == buffers.begin()) return nullptr;
  Buffer& buffer = std::prev(after)->second;
  if (!within(address, buffer.begin, buffer.size)) return nullptr;
  return last_found = &buffer;
}

bool of_this_launch(const Stamp& stamp) { return stamp.by.block >= first_block_of_launch(); }

// Is what a single thread did ordered before what `now` does?
bool before(const Self& then, const Self& now) {
  if (then.block != now.block) return false;
  if (then.thread == now.thread || then.epoch < now.epoch) return true;
  return then.epoch == now.epoch && then.warp == now.warp && then.warp_epoch < now.warp_epoch;
}

bool reads_before(const Stamp& reads, const Self& now) {
  if (reads.readers == Readers::kBlocks || reads.by.block != now.block) return false;
  if (reads.by.epoch < now.epoch) return true;
  if (reads.readers == Readers::kOneBlock) return false;
  if (reads.readers == Readers::kOneThread) return before(reads.by, now);
  return reads.by.warp == now.warp && reads.by.warp_epoch < now.warp_epoch;
}

// Remembers a read beside those before it. Where all of these are ordered before whatever is
// ordered after the new one, they are forgotten.
void add_read(Stamp& reads, const Self& now) {
  const Self& then = reads.by;
  if (!of_this_launch(reads)) {
    reads = {now, Readers::kOneThread};
  } else if (reads.readers == Readers::kBlocks) {
    return;
  } else if (then.block != now.block) {
    reads = {now, Readers::kBlocks};
  } else if (then.epoch < now.epoch) {
    reads = {now, Readers::kOneThread};
  } else if (reads.readers == Readers::kOneBlock || then.warp != now.warp) {
    reads = {now, Readers::kOneBlock};
  } else if (then.warp_epoch < now.warp_epoch) {
    reads = {now, Readers::kOneThread};
  } else if (then.thread != now.thread) {
    reads = {now, Readers::kOneWarp};
  }
}

std::string describe(const Self& who) {
  return "thread " + std::to_string(who.thread) + " of block " +
         std::to_string(who.block - first_block_of_launch());
}

[[noreturn]] void refuse(const Buffer& buffer, const char* address, Access access,
                         const std::string& why) {
  const char* verb = access == Access::kRead ? " reads byte " : " writes byte ";
  fail(describe(*self()) + verb + std::to_string(address - buffer.begin) + " of " + buffer.name +
       ", " + why);
  __builtin_unreachable();
}

[[noreturn]] void refuse_outside(const char* address, size_t size, Access access) {
  const char* verb = access == Access::kRead ? " reads " : " writes ";
  std::string message = describe(*self()) + verb + std::to_string(size) + " bytes out of bounds";
  auto after = buffers.upper_bound(address);
  if (after != buffers.begin()) {
    const Buffer& buffer = std::prev(after)->second;
    message += ", at byte " + std::to_string(address - buffer.begin) + " of " + buffer.name + " (" +
               std::to_string(buffer.size) + " bytes)";
  }
  fail(message);
  __builtin_unreachable();
}

}  // namespace

void add_buffer(const void* begin, size_t size, size_t granule, std::string name, bool written) {
  if (size == 0) return;
  const char* key = static_cast<const char*>(begin);
  const size_t count = (size + granule - 1) / granule;
  last_found = nullptr;
  buffers[key] = {key, size, std::move(name), granule, std::make_unique<Granule[]>(count)};
  Buffer& buffer = buffers[key];
  for (size_t i = 0; written && i < count; ++i) buffer.granules[i].written = true;
}

void remove_buffer(const void* begin) {
  last_found = nullptr;
  buffers.erase(static_cast<const char*>(begin));
}

void remove_buffers() {
  last_found = nullptr;
  buffers.clear();
}

void exempt(const void* begin, size_t size) {
  exempt_begin = static_cast<const char*>(begin);
  exempt_size = size;
}

void touch(const void* pointer, size_t size, Access access) {
  const Self* now = self();
  if (!now || on_own_stack(pointer)) return;
  const char* address = static_cast<const char*>(pointer);
  if (within(address, &builtins, sizeof(builtins)) || within(address, exempt_begin, exempt_size)) {
    return;
  }
  Buffer* buffer = find(address);
  const size_t at = buffer ? static_cast<size_t>(address - buffer->begin) : 0;
  if (!buffer || size > buffer->size - at) refuse_outside(address, size, access);
  for (size_t i = at / buffer->granule; i <= (at + size - 1) / buffer->granule; ++i) {
    Granule* granule = &buffer->granules[i];
    const char* here = buffer->begin + i * buffer->granule;
    const bool both_atomic = access == Access::kAtomic && granule->atomic;
    if (access != Access::kWrite && !granule->written) {
      refuse(*buffer, here, access, "which nobody has written");
    }
    if (of_this_launch(granule->write) && !both_atomic && !before(granule->write.by, *now)) {
      refuse(*buffer, here, access,
             "which " + describe(granule->write.by) + " writes without a barrier between");
    }
    if (access == Access::kRead) {
      add_read(granule->read, *now);
      continue;
    }
    if (of_this_launch(granule->read) && !reads_before(granule->read, *now)) {
      refuse(*buffer, here, access,
             "which " + describe(granule->read.by) + " reads without a barrier between");
    }
    granule->write = {*now, Readers::kOneThread};
    granule->atomic = access == Access::kAtomic;
    granule->written = true;
  }
}

}  // namespace emulation

// The hooks that the compiler calls before every load and store of code built with
// -fsanitize=thread. An aligned one must be aligned: a GPU refuses others.
namespace {

void aligned(const void* address, size_t size, emulation::Access access) {
  if (emulation::self() && reinterpret_cast<uintptr_t>(address) % size) {
    emulation::fail("access of " + std::to_string(size) + " bytes at an address that is not a " +
                    "multiple of it");
  }
  emulation::touch(address, size, access);
}

}  // namespace

#define EMULATION_HOOKS(size)                                                       \
  void __tsan_read##size(void* p) { aligned(p, size, emulation::Access::kRead); }   \
  void __tsan_write##size(void* p) { aligned(p, size, emulation::Access::kWrite); } \
  void __tsan_unaligned_read##size(void* p) {                                       \
    emulation::touch(p, size, emulation::Access::kRead);                            \
  }                                                                                 \
  void __tsan_unaligned_write##size(void* p) {                                      \
    emulation::touch(p, size, emulation::Access::kWrite);                           \
  }

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_read_range(void* p, size_t n) { emulation::touch(p, n, emulation::Access::kRead); }
void __tsan_write_range(void* p, size_t n) { emulation::touch(p, n, emulation::Access::kWrite); }
EMULATION_HOOKS(1)
EMULATION_HOOKS(2)
EMULATION_HOOKS(4)
EMULATION_HOOKS(8)
EMULATION_HOOKS(16)
}
