#include "emulation/fiber.h"

#include <sys/mman.h>

#include <cstdlib>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
namespace {

Fiber* current = nullptr;
void (*current_body)() = nullptr;
// Kept for the next block.
std::vector<char*> free_stacks;
#ifdef __SANITIZE_ADDRESS__
ucontext_t caller_context;
// Stack of the caller of `resume`, as ASan tells it whenever a fiber goes on.
const void* caller_stack = nullptr;
size_t caller_stack_size = 0;
#else
jmp_buf caller_jump;
#endif

void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &caller_stack, &caller_stack_size);
#endif
  current_body();
}

}  // namespace

char* take_stacks() {
  if (free_stacks.empty()) {
    void* memory = mmap(nullptr, kStack * kStacks, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    free_stacks.push_back(static_cast<char*>(memory));
  }
  char* stacks = free_stacks.back();
  free_stacks.pop_back();
  return stacks;
}

void return_stacks(char* stacks) { free_stacks.push_back(stacks); }

// swapcontext enters the kernel for the signal mask each time; _longjmp does not, but confuses
// AddressSanitizer.
void resume(Fiber& fiber, void (*body)()) {
  current = &fiber;
  current_body = body;
  if (!fiber.entered) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
#ifdef __SANITIZE_ADDRESS__
  fiber.entered = true;
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, fiber.stack, kStack);
  swapcontext(&caller_context, &fiber.context);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#else
  if (_setjmp(caller_jump) == 0) {
    if (current->entered) _longjmp(current->jump, 1);
    current->entered = true;
    setcontext(&current->context);
  }
#endif
}

void suspend(bool forever) {
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(forever ? nullptr : &fake_stack, caller_stack, caller_stack_size);
  swapcontext(&current->context, &caller_context);
  __sanitizer_finish_switch_fiber(fake_stack, &caller_stack, &caller_stack_size);
#else
  if (forever) _longjmp(caller_jump, 1);
  if (_setjmp(current->jump) == 0) _longjmp(caller_jump, 1);
#endif
}

}  // namespace emulation
