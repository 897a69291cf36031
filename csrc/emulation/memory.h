// What every load and store of a kernel is held against. The kernels are compiled with
// -fsanitize=thread, whose hooks are defined here instead of in its own library: each access must
// lie within a buffer, be aligned, find its bytes written, and be ordered by a barrier after every
// conflicting access of another CUDA thread. Atomics order nothing, but conflict with no atomic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emulation {

enum class Access { kRead, kWrite, kAtomic };

// Lets kernels touch [begin, begin + size). What is not `written` yet must not be read. Accesses
// are told apart by granules of so many bytes, a divisor of every element's size.
void add_buffer(const void* begin, size_t size, size_t granule, std::string name, bool written);
void remove_buffer(const void* begin);
void remove_buffers();

// Checks one access of the running CUDA thread; ends the launch where it breaks a rule.
void touch(const void* address, size_t size, Access access);

// Bytes that every CUDA thread may read unchecked: arguments of the launch, built-in variables.
void exempt(const void* begin, size_t size);

}  // namespace emulation
