// What CUDA devices this process sees, and whether this binary holds code for them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastgan::cuda {

struct DeviceInfo {
  char name[256];
  int major;  // compute capability
  int minor;
  int64_t total_memory;  // bytes
  int multiprocessors;
  int binary_version;  // 10 * major + minor of the machine code that would run; 0 if none
  int ptx_version;     // of the PTX it was compiled from
  int code_error;      // cudaError_t of looking up and launching the probe kernel; 0 = it ran
};

// Newest CUDA version the driver takes and version of the linked runtime, as 1000 * major +
// 10 * minor; a driver of 0 means none is installed. Returns cudaError_t.
int versions(int* driver, int* runtime);

// Number of visible devices. Returns cudaError_t: without a driver an error code, never an
// exception.
int device_count(int* count);

// Describes one device, and runs a one-thread kernel on it to learn whether the binary holds code
// it can execute. Keeps the calling thread's current device. Returns cudaError_t.
int describe_device(int device, DeviceInfo* info);

// Makes a device the calling thread's current one and tells which was before. Returns cudaError_t.
int set_device(int device, int* before);

// Text of a cudaError_t.
const char* error_text(int error);

}  // namespace fastgan::cuda
