#include "cpu/isa.h"

#include <atomic>
#include <cstdlib>

namespace fastgan::cpu {
namespace {

Isa best() {
  for (Isa level : {Isa::kAvx512, Isa::kAvx2}) {
    if (isa_available(level)) return level;
  }
  return Isa::kBaseline;
}

bool parse(std::string_view name, Isa* level) {
  if (name == "auto") {
    *level = best();
    return true;
  }
  for (Isa candidate : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (name == isa_name(candidate) && isa_available(candidate)) {
      *level = candidate;
      return true;
    }
  }
  return false;
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> level = [] {
    Isa initial = best();
    // an unusable word leaves the best level: a library must not fail to load over a test hook
    if (const char* name = std::getenv("FASTGAN_ISA")) parse(name, &initial);
    return initial;
  }();
  return level;
}

}  // namespace

bool isa_available(Isa level) {
  if (level == Isa::kBaseline) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (level == Isa::kAvx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

const char* isa_name(Isa level) {
  switch (level) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

Isa isa() { return chosen().load(std::memory_order_relaxed); }

bool set_isa(std::string_view name) {
  Isa level;
  if (!parse(name, &level)) return false;
  chosen().store(level, std::memory_order_relaxed);
  return true;
}

}  // namespace fastgan::cpu
