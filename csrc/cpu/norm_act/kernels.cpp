// Compiled once per ISA level with FASTGAN_ISA = baseline, avx2 or avx512. Everything but the entry
// has internal linkage: see FASTGAN_FORMULA.
#include "cpu/norm_act/kernels.h"

#include "core/norm_act.h"
#include "cpu/lanes.h"
#include "cpu/stream.h"

namespace fastgan::cpu {
namespace {

// Lanes are worked on in columns of two vectors, whose constants and sums stay in registers over
// the rows of a strip. A low strip keeps the walk through memory one run of neighbouring lines,
// which the processor prefetches by itself; a high one has less to load and to fold.
constexpr int64_t kLowStrip = 8;

// Rows of a strip of sums: float32 sums over it go to float64 before their error grows beyond a few
// roundings. A strip of every tensor fits the first-level cache.
constexpr int64_t sum_rows(int64_t lanes) {
  constexpr int64_t kElements = 4096, kMax = 32;
  const int64_t rows = kElements / lanes;
  return rows < kLowStrip ? kLowStrip : rows > kMax ? kMax : rows;
}

// Calls body<W>(first tile, tiles, first lane) for every column of W lanes of every strip.
template <class A, class Body>
void for_columns(int64_t rows, int64_t tiles, int64_t lanes, const Body& body) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(A));
  for (int64_t begin = 0; begin < tiles; begin += rows) {
    const int64_t count = tiles - begin < rows ? tiles - begin : rows;
    int64_t j = 0;
    for (; j + 2 * kVector <= lanes; j += 2 * kVector) {
      body.template operator()<2 * kVector>(begin, count, j);
    }
    for (; j + kVector <= lanes; j += kVector) body.template operator()<kVector>(begin, count, j);
    for (; j < lanes; ++j) body.template operator()<1>(begin, count, j);
  }
}

// W values in registers.
template <class A, int W>
struct Column {
  A at[W];

  FASTGAN_INLINE Column() {
    for (int i = 0; i < W; ++i) at[i] = A(0);
  }
  FASTGAN_INLINE explicit Column(const A* from) {
    for (int i = 0; i < W; ++i) at[i] = from[i];
  }
  FASTGAN_INLINE void add_to(double* __restrict__ totals) const {
    for (int i = 0; i < W; ++i) totals[i] += static_cast<double>(at[i]);
  }
};

// Whole cache lines alone are streamed: of a half, the other half would come too late.
template <class T, int W>
constexpr bool kWholeLines = W * sizeof(T) % 64 == 0;

// Whether every column of a run may be streamed to `to`.
template <class T>
bool aligned(const T* to, int64_t lanes) {
  return reinterpret_cast<uintptr_t>(to) % 64 == 0 && lanes * sizeof(T) % 64 == 0;
}

// Calls body(i, out) for the W elements at `to`, through the cache or around it.
template <bool kStream, int W, class T, class Body>
FASTGAN_INLINE inline void write(T* __restrict__ to, const Body& body) {
  if constexpr (kStream && kWholeLines<T, W>) {
    alignas(64) T line[W];
#pragma omp simd
    for (int i = 0; i < W; ++i) store(line[i], body(i));
    stream<W* static_cast<int>(sizeof(T))>(to, line);
  } else {
#pragma omp simd
    for (int i = 0; i < W; ++i) store(to[i], body(i));
  }
}

// Asks for what is read half a page from here, where little is computed. Of three tensors the
// requests would crowd out the processor's own.
template <class T>
FASTGAN_INLINE inline void prefetch(const T* from) {
  __builtin_prefetch(reinterpret_cast<const char*>(from) + 2048);
}

template <class T>
void moments(const T* x, int64_t tiles, int64_t lanes, bool from_memory, double* mean, double* m2) {
  using A = Compute<T>;
  const int64_t rows = from_memory ? kLowStrip : sum_rows(lanes);
  for_columns<A>(rows, tiles, lanes, [=]<int W>(int64_t begin, int64_t count, int64_t lane) {
    const T* __restrict__ from = x + begin * lanes + lane;
    double* __restrict__ to_mean = mean + lane;
    double* __restrict__ to_m2 = m2 + lane;
    Column<A, W> shift, sum, square;
    if (begin == 0) {
      for (int64_t t = 0; t < count; ++t) {
#pragma omp simd
        for (int i = 0; i < W; ++i) shift.at[i] += load(from[t * lanes + i]);
      }
      for (int i = 0; i < W; ++i) {
        shift.at[i] /= static_cast<A>(count);
        to_mean[i] = to_m2[i] = 0;
      }
    } else {
      for (int i = 0; i < W; ++i) shift.at[i] = static_cast<A>(to_mean[i]);
    }
    for (int64_t t = 0; t < count; ++t, from += lanes) {
      prefetch(from);
#pragma omp simd
      for (int i = 0; i < W; ++i) {
        const A distance = load(from[i]) - shift.at[i];
        sum.at[i] += distance;
        square.at[i] += distance * distance;
      }
    }
    // Chan's merge. Distances are from the mean so far, of the first strip from its own, so nothing
    // cancels: their part beyond the strip's spread is at most twice what the merge adds to m2.
    const double n = static_cast<double>(count);
    const double inverse = 1 / n;
    const double weight = n / static_cast<double>(begin + count);
    const double between = static_cast<double>(begin) * weight;
#pragma omp simd
    for (int i = 0; i < W; ++i) {
      const double offset = static_cast<double>(sum.at[i]) * inverse;
      const double inside = static_cast<double>(square.at[i]) - n * offset * offset;
      const double delta = static_cast<double>(shift.at[i]) + offset - to_mean[i];
      // rounding may leave the spread of equal values below zero; a NaN must stay
      to_m2[i] += (inside < 0 ? 0.0 : inside) + delta * delta * between;
      to_mean[i] += delta * weight;
    }
  });
}

template <bool kStream, class T>
void fwd_loop(const T* x, T* y, int64_t tiles, int64_t lanes,
              const NormActLanes<Compute<T>>& constant, Compute<T> negative_slope) {
  using A = Compute<T>;
  for_columns<A>(kLowStrip, tiles, lanes, [=]<int W>(int64_t begin, int64_t count, int64_t lane) {
    const T* __restrict__ from = x + begin * lanes + lane;
    T* __restrict__ to = y + begin * lanes + lane;
    const Column<A, W> mean(constant.mean + lane), scale(constant.scale + lane),
        bias(constant.bias + lane);
    for (int64_t t = 0; t < count; ++t, from += lanes, to += lanes) {
      prefetch(from);
      write<kStream, W>(to, [&](int i) FASTGAN_INLINE {
        const A z = norm_act_z(load(from[i]) - mean.at[i], scale.at[i], bias.at[i]);
        return norm_act_sloped(z, negative_slope, z);
      });
    }
  });
}

template <class T>
void fwd(const T* x, T* y, int64_t tiles, int64_t lanes, const NormActLanes<Compute<T>>& constant,
         Compute<T> negative_slope, bool stream) {
  stream = stream && aligned(y, lanes);
  auto* loop = stream ? &fwd_loop<true, T> : &fwd_loop<false, T>;
  loop(x, y, tiles, lanes, constant, negative_slope);
  if (stream) finish_streams();
}

template <class T>
void bwd_sums(const T* g, const T* x, int64_t tiles, int64_t lanes,
              const NormActLanes<Compute<T>>& constant, Compute<T> negative_slope, double* sums) {
  using A = Compute<T>;
  for_columns<A>(sum_rows(lanes), tiles, lanes,
                 [=]<int W>(int64_t begin, int64_t count, int64_t lane) {
                   const T* __restrict__ from_g = g + begin * lanes + lane;
                   const T* __restrict__ from_x = x + begin * lanes + lane;
                   const Column<A, W> mean(constant.mean + lane), scale(constant.scale + lane),
                       bias(constant.bias + lane);
                   Column<A, W> sum_u, sum_u_x;
                   for (int64_t t = 0; t < count; ++t, from_g += lanes, from_x += lanes) {
#pragma omp simd
                     for (int i = 0; i < W; ++i) {
                       const A centred = load(from_x[i]) - mean.at[i];
                       const A z = norm_act_z(centred, scale.at[i], bias.at[i]);
                       const A u = norm_act_sloped(z, negative_slope, load(from_g[i]));
                       sum_u.at[i] += u;
                       sum_u_x.at[i] += u * centred;
                     }
                   }
                   sum_u.add_to(sums + lane);
                   sum_u_x.add_to(sums + lanes + lane);
                 });
}

template <bool kStream, class T>
void bwd_loop(const T* g, const T* x, T* d_x, int64_t tiles, int64_t lanes,
              const NormActLanes<Compute<T>>& constant, Compute<T> negative_slope) {
  using A = Compute<T>;
  for_columns<A>(kLowStrip, tiles, lanes, [=]<int W>(int64_t begin, int64_t count, int64_t lane) {
    const T* __restrict__ from_g = g + begin * lanes + lane;
    const T* __restrict__ from_x = x + begin * lanes + lane;
    T* __restrict__ to = d_x + begin * lanes + lane;
    const Column<A, W> mean(constant.mean + lane), scale(constant.scale + lane),
        bias(constant.bias + lane), by_u(constant.first[0] + lane),
        by_centred(constant.first[1] + lane), by_one(constant.first[2] + lane);
    for (int64_t t = 0; t < count; ++t, from_g += lanes, from_x += lanes, to += lanes) {
      prefetch(from_g);
      prefetch(from_x);
      write<kStream, W>(to, [&](int i) FASTGAN_INLINE {
        const A centred = load(from_x[i]) - mean.at[i];
        const A z = norm_act_z(centred, scale.at[i], bias.at[i]);
        const A u = norm_act_sloped(z, negative_slope, load(from_g[i]));
        return by_u.at[i] * u + (by_centred.at[i] * centred + by_one.at[i]);
      });
    }
  });
}

template <class T>
void bwd(const T* g, const T* x, T* d_x, int64_t tiles, int64_t lanes,
         const NormActLanes<Compute<T>>& constant, Compute<T> negative_slope, bool stream) {
  stream = stream && aligned(d_x, lanes);
  auto* loop = stream ? &bwd_loop<true, T> : &bwd_loop<false, T>;
  loop(g, x, d_x, tiles, lanes, constant, negative_slope);
  if (stream) finish_streams();
}

template <bool kHasV, class T>
void bwd_bwd_sums_loop(const T* v, const T* g, const T* x, int64_t tiles, int64_t lanes,
                       const NormActLanes<Compute<T>>& constant, Compute<T> negative_slope,
                       double* sums) {
  using A = Compute<T>;
  for_columns<A>(
      sum_rows(lanes), tiles, lanes, [=]<int W>(int64_t begin, int64_t count, int64_t lane) {
        // without v its pointer walks along g and is not read
        const T* __restrict__ from_v = (kHasV ? v : g) + begin * lanes + lane;
        const T* __restrict__ from_g = g + begin * lanes + lane;
        const T* __restrict__ from_x = x + begin * lanes + lane;
        const Column<A, W> mean(constant.mean + lane), scale(constant.scale + lane),
            bias(constant.bias + lane);
        Column<A, W> sum_u, sum_u_x, sum_v, sum_v_x, sum_v_u;
        for (int64_t t = 0; t < count; ++t, from_v += lanes, from_g += lanes, from_x += lanes) {
#pragma omp simd
          for (int i = 0; i < W; ++i) {
            const A centred = load(from_x[i]) - mean.at[i];
            const A z = norm_act_z(centred, scale.at[i], bias.at[i]);
            const A u = norm_act_sloped(z, negative_slope, load(from_g[i]));
            sum_u.at[i] += u;
            sum_u_x.at[i] += u * centred;
            if constexpr (kHasV) {
              const A w = load(from_v[i]);
              sum_v.at[i] += w;
              sum_v_x.at[i] += w * centred;
              sum_v_u.at[i] += w * u;
            }
          }
        }
        sum_u.add_to(sums + lane);
        sum_u_x.add_to(sums + lanes + lane);
        if constexpr (kHasV) {
          sum_v.add_to(sums + 2 * lanes + lane);
          sum_v_x.add_to(sums + 3 * lanes + lane);
          sum_v_u.add_to(sums + 4 * lanes + lane);
        }
      });
}

template <class T>
void bwd_bwd_sums(const T* v, const T* g, const T* x, int64_t tiles, int64_t lanes,
                  const NormActLanes<Compute<T>>& constant, Compute<T> negative_slope,
                  double* sums) {
  auto* loop = v ? &bwd_bwd_sums_loop<true, T> : &bwd_bwd_sums_loop<false, T>;
  loop(v, g, x, tiles, lanes, constant, negative_slope, sums);
}

template <bool kHasV, bool kStream, class T>
void bwd_bwd_loop(const T* v, const T* g, const T* x, T* d_g, T* d_x, int64_t tiles, int64_t lanes,
                  const NormActLanes<Compute<T>>& constant, Compute<T> negative_slope) {
  using A = Compute<T>;
  for_columns<A>(kLowStrip, tiles, lanes, [=]<int W>(int64_t begin, int64_t count, int64_t lane) {
    const int64_t start = begin * lanes + lane;
    // without v its pointer walks along g and is not read
    const T* __restrict__ from_v = (kHasV ? v : g) + start;
    const T* __restrict__ from_g = g + start;
    const T* __restrict__ from_x = x + start;
    T* __restrict__ to_g = d_g + start;
    T* __restrict__ to_x = d_x + start;
    const Column<A, W> mean(constant.mean + lane), scale(constant.scale + lane),
        bias(constant.bias + lane);
    // One output after the other: centred and u are cheaper to compute again than to keep, and
    // streamed lines of one output do not stand in the way of the other's.
    {
      const Column<A, W> g_v(constant.first[0] + lane), g_centred(constant.first[1] + lane),
          g_one(constant.first[2] + lane);
      for (int64_t t = 0, row = 0; t < count; ++t, row += lanes) {
        write<kStream, W>(to_g + row, [&](int i) FASTGAN_INLINE {
          const A centred = load(from_x[row + i]) - mean.at[i];
          const A z = norm_act_z(centred, scale.at[i], bias.at[i]);
          A sum = g_centred.at[i] * centred + g_one.at[i];
          if constexpr (kHasV) sum += g_v.at[i] * load(from_v[row + i]);
          return norm_act_sloped(z, negative_slope, sum);
        });
      }
    }
    const Column<A, W> x_u(constant.second[0] + lane), x_v(constant.second[1] + lane),
        x_centred(constant.second[2] + lane), x_one(constant.second[3] + lane);
    for (int64_t t = 0, row = 0; t < count; ++t, row += lanes) {
      write<kStream, W>(to_x + row, [&](int i) FASTGAN_INLINE {
        const A centred = load(from_x[row + i]) - mean.at[i];
        const A z = norm_act_z(centred, scale.at[i], bias.at[i]);
        const A u = norm_act_sloped(z, negative_slope, load(from_g[row + i]));
        A sum = x_u.at[i] * u + (x_centred.at[i] * centred + x_one.at[i]);
        if constexpr (kHasV) sum += x_v.at[i] * load(from_v[row + i]);
        return sum;
      });
    }
  });
}

template <class T>
void bwd_bwd(const T* v, const T* g, const T* x, T* d_g, T* d_x, int64_t tiles, int64_t lanes,
             const NormActLanes<Compute<T>>& constant, Compute<T> negative_slope, bool stream) {
  stream = stream && aligned(d_g, lanes) && aligned(d_x, lanes);
  auto* loop = v ? (stream ? &bwd_bwd_loop<true, true, T> : &bwd_bwd_loop<true, false, T>)
                 : (stream ? &bwd_bwd_loop<false, true, T> : &bwd_bwd_loop<false, false, T>);
  loop(v, g, x, d_g, d_x, tiles, lanes, constant, negative_slope);
  if (stream) finish_streams();
}

}  // namespace

namespace FASTGAN_ISA {

template <class T>
NormActKernels<T> norm_act_kernels() {
  return {&moments<T>, &fwd<T>, &bwd_sums<T>, &bwd<T>, &bwd_bwd_sums<T>, &bwd_bwd<T>};
}

template NormActKernels<float> norm_act_kernels();
template NormActKernels<BFloat16> norm_act_kernels();
template NormActKernels<double> norm_act_kernels();

}  // namespace FASTGAN_ISA
}  // namespace fastgan::cpu
