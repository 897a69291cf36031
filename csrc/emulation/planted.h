// Small kernels, each with one mistake of the kind that the emulation must catch; "right" ones have
// none and must pass.
#pragma once

#include <string>
#include <vector>

namespace planted {

std::vector<std::string> names();

// Runs one by its name. Returns a cudaError_t.
int run(const std::string& name);

}  // namespace planted
