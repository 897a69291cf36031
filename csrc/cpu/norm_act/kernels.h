// Inner loops of norm_act, compiled once per ISA level.
//
// A run of memory is read as `tiles` tiles of `lanes` elements: whole rows of channels in
// channels-last memory, any number of voxels of one channel in channels-first memory. Parameters
// and sums are arrays over the lanes of a tile, so one loop without gathers or lane shuffles serves
// both layouts, every channel count and every vector width. `stream` writes outputs around the
// cache where they are aligned for it.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/isa.h"

namespace fastgan::cpu {

// Everything that is constant per lane. Each pointer: [lanes].
template <class A>
struct NormActLanes {
  A* mean;
  A* scale;  // weight * rstd
  A* bias;
  A* first[3];   // NormActBwdCoefficients, or g_* of NormActBwdBwdCoefficients
  A* second[4];  // x_* of NormActBwdBwdCoefficients
};

template <class T>
struct NormActKernels {
  using A = Compute<T>;

  // mean and sum of squared distances to it, per lane, tiles >= 1; from_memory: x is in no cache
  void (*moments)(const T* x, int64_t tiles, int64_t lanes, bool from_memory, double* mean,
                  double* m2);

  // y = act(norm(x))
  void (*fwd)(const T* x, T* y, int64_t tiles, int64_t lanes, const NormActLanes<A>& constant,
              A negative_slope, bool stream);

  // sums [2, lanes] += u, u (x - mean)
  void (*bwd_sums)(const T* g, const T* x, int64_t tiles, int64_t lanes,
                   const NormActLanes<A>& constant, A negative_slope, double* sums);

  void (*bwd)(const T* g, const T* x, T* d_x, int64_t tiles, int64_t lanes,
              const NormActLanes<A>& constant, A negative_slope, bool stream);

  // sums [5, lanes] += u, u (x - mean), v, v (x - mean), v u; v may be null
  void (*bwd_bwd_sums)(const T* v, const T* g, const T* x, int64_t tiles, int64_t lanes,
                       const NormActLanes<A>& constant, A negative_slope, double* sums);

  void (*bwd_bwd)(const T* v, const T* g, const T* x, T* d_g, T* d_x, int64_t tiles, int64_t lanes,
                  const NormActLanes<A>& constant, A negative_slope, bool stream);
};

FASTGAN_DECLARE_PER_ISA(template <class T> NormActKernels<T> norm_act_kernels();)

// The loops of the level in use.
template <class T>
NormActKernels<T> norm_act_kernels() {
  FASTGAN_RETURN_BY_ISA(norm_act_kernels<T>());
}

}  // namespace fastgan::cpu
