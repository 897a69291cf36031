// Functions that can stop in the middle and go on later, each on a stack of its own.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>

namespace emulation {

constexpr size_t kStack = 64 << 10;
// How many stacks lie side by side; one each for the threads of the largest block.
constexpr int kStacks = 1024;

struct Fiber {
  char* stack;
  bool entered = false;
  ucontext_t context;
  jmp_buf jump;
};

// kStacks stacks in a row, and what gives them back for the next block.
char* take_stacks();
void return_stacks(char* stacks);

// Runs a fiber until it suspends itself; the first time it begins with `body`, whose end is to
// suspend it for ever.
void resume(Fiber& fiber, void (*body)());
void suspend(bool forever);

}  // namespace emulation
