#include "cpu/stream.h"

#include <unistd.h>

#include <fstream>

namespace fastgan::cpu {
namespace {

// Bytes of one last-level cache. The kernel's word comes first: for some AMD processors the C
// library adds up every cache of the socket.
int64_t last_cache() {
  int64_t kilobytes = 0;
  std::ifstream("/sys/devices/system/cpu/cpu0/cache/index3/size") >> kilobytes;
  if (kilobytes > 0) return kilobytes << 10;
  int64_t size = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
  size = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
  // 32 MiB where the system does not say
  return size > 0 ? size : int64_t{32} << 20;
}

}  // namespace

bool exceeds_cache(int64_t bytes) {
  static const int64_t cache = last_cache();
  return bytes > cache;
}

}  // namespace fastgan::cpu
