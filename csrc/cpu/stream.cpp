#include "cpu/stream.h"

#include <unistd.h>

namespace fastgan::cpu {

bool exceeds_cache(int64_t bytes) {
  // 32 MiB where the system does not say
  static const int64_t cache = [] {
    int64_t size = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
    size = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return size > 0 ? size : int64_t{32} << 20;
  }();
  return bytes > cache;
}

}  // namespace fastgan::cpu
