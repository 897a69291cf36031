// Gradients of the affine parameters of norm_act, from their values for each sample.
#include <cstdint>

#include "cuda/norm_act/finish.cuh"

namespace fastgan::cuda {
namespace {

struct AffineParams {
  int64_t B, C;
  NormActAffineGradient to[2];
  const double* values[2];  // [B, C]
};

// One thread per value of both gradients: two rows of blocks, [C] or [B, C] each.
__global__ void __launch_bounds__(kNormThreads)
    norm_act_affine_kernel(const __grid_constant__ AffineParams p) {
  const int64_t half = gridDim.x / 2, which = blockIdx.x / half;
  const NormActAffineGradient& to = p.to[which];
  const int64_t i = blockIdx.x % half * kNormThreads + threadIdx.x;
  if (!to.data || i >= (to.per_sample ? p.B * p.C : p.C)) return;
  double value = p.values[which][i];
  for (int64_t b = 1; b < p.B && !to.per_sample; ++b) value += p.values[which][b * p.C + i];
  switch (to.dtype) {
    case Dtype::kFloat64:
      static_cast<double*>(to.data)[i] = value;
      break;
    case Dtype::kBFloat16:
      store(static_cast<BFloat16*>(to.data)[i], static_cast<float>(value));
      break;
    default:
      static_cast<float*>(to.data)[i] = static_cast<float>(value);
  }
}

}  // namespace

cudaError_t write_affine_gradients(const NormActGrid& grid, const NormActAffineGradient& first,
                                   const double* first_values, const NormActAffineGradient& second,
                                   const double* second_values, void* stream) {
  if (!first.data && !second.data) return cudaSuccess;
  const bool per_sample = (first.data && first.per_sample) || (second.data && second.per_sample);
  const int64_t values = per_sample ? grid.B * grid.C : grid.C;
  return launch(norm_act_affine_kernel, 2 * ceil_div(values, kNormThreads), kNormThreads, 0,
                AffineParams{grid.B, grid.C, {first, second}, {first_values, second_values}},
                stream);
}

}  // namespace fastgan::cuda
