// Exact nearest neighbours on the CPU. The contract is in core/nearest.h.
#pragma once

#include "core/nearest.h"

namespace fastgan::cpu {

// Memory beside the arguments: 64 MiB of rounded rows, 32 MiB of sums, 4 MiB of candidates, the
// features' centre and under 1 MiB a thread; more only where k or F alone needs it.
void nearest(const NearestParams& params);

// Coarse rows [rows, width] of volumes, how far each may be from the truth, and which are bad.
void nearest_pyramid_build(const NearestPyramid& pyramid, Dtype dtype, const void* volumes,
                           int64_t rows, int threads, float* coarse, double* error, uint8_t* bad);

// The same result as nearest(), reading full volumes only where coarse rows do not rule them out.
void nearest_pyramid(const NearestPyramidParams& params);

}  // namespace fastgan::cpu
