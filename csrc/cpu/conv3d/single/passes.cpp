#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/conv3d/conv3d.h"
#include "cpu/conv3d/single/kernels.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kLanes = ConvSingleParams::kLanes;
// Taps are worked on four at a time along W, so rows are read and written this far beyond.
constexpr int64_t kSlack = 4;

// Sizes of the zero-padded volume and of a row of outputs.
struct Geometry {
  explicit Geometry(const ConvSingleParams& p) {
    for (int i = 0; i < 3; ++i) {
      padded[i] = p.in[i] + 2 * p.padding[i];
      taps *= p.kernel[i];
      row.kernel[i] = p.kernel[i];
    }
    row.K = p.K;
    row.width = p.out[2];
    row.stride = p.stride[2];
    row.row = padded[2] + kSlack;
    row.plane = padded[1] * row.row;
  }

  int64_t padded[3];
  int64_t taps = 1;
  ConvSingleRow row;
};

// x in float32 with its padding [B, padded D, padded H, row], rows and planes as in g.row.
template <class T>
std::unique_ptr<float[]> padded(const ConvSingleParams& p, const Geometry& g) {
  const int64_t planes = p.B * g.padded[0];
  // slack beyond the last plane too: a row is read four taps at a time
  std::unique_ptr<float[]> out(new float[static_cast<size_t>(planes * g.row.plane + kSlack)]);
  const T* x = static_cast<const T*>(p.x);
#pragma omp parallel for schedule(static) num_threads(p.threads)
  for (int64_t plane = 0; plane < planes; ++plane) {
    const int64_t b = plane / g.padded[0], d = plane % g.padded[0] - p.padding[0];
    float* to = out.get() + plane * g.row.plane;
    std::fill_n(to, g.row.plane, 0.0f);
    if (d < 0 || d >= p.in[0]) continue;
    for (int64_t h = 0; h < p.in[1]; ++h) {
      const T* from = x + ((b * p.in[0] + d) * p.in[1] + h) * p.in[2];
      float* row = to + (h + p.padding[1]) * g.row.row + p.padding[2];
      for (int64_t w = 0; w < p.in[2]; ++w) row[w] = load(from[w]);
    }
  }
  std::fill_n(out.get() + planes * g.row.plane, kSlack, 0.0f);
  return out;
}

template <class T>
void fprop(const ConvSingleParams& p) {
  const Geometry g(p);
  const auto x = padded<T>(p, g);
  const T* weight = static_cast<const T*>(p.weight);
  const T* bias = static_cast<const T*>(p.bias);
  std::vector<float> taps(static_cast<size_t>(g.taps * p.K)), start(static_cast<size_t>(p.K));
  for (int64_t k = 0; k < p.K; ++k) {
    start[k] = bias ? load(bias[k]) : 0.0f;
    for (int64_t t = 0; t < g.taps; ++t) {
      taps[(k / kLanes * g.taps + t) * kLanes + k % kLanes] = load(weight[k * g.taps + t]);
    }
  }
  const auto kernels = conv_single_kernels<T>();
  const int64_t rows = p.B * p.out[0] * p.out[1];
#pragma omp parallel for schedule(static) num_threads(p.threads)
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t h = i % p.out[1], d = i / p.out[1] % p.out[0], b = i / p.out[1] / p.out[0];
    const float* from =
        x.get() + (b * g.padded[0] + d * p.stride[0]) * g.row.plane + h * p.stride[1] * g.row.row;
    T* to = static_cast<T*>(p.y) + i * g.row.width * p.K;
    kernels.fprop(g.row, from, taps.data(), start.data(), to);
  }
}

template <class T>
void dgrad(const ConvSingleParams& p) {
  const Geometry g(p);
  const T* weight = static_cast<const T*>(p.weight);
  const int64_t across = p.kernel[1] * p.kernel[2];
  std::vector<float> taps(static_cast<size_t>(p.kernel[0] * p.K * kLanes), 0.0f);
  for (int64_t k = 0; k < p.K; ++k) {
    for (int64_t t = 0; t < g.taps; ++t) {
      const int64_t d = t / across, h = t % across / p.kernel[2], w = t % p.kernel[2];
      taps[(d * p.K + k) * kLanes + 4 * h + w] = load(weight[k * g.taps + t]);
    }
  }
  const auto kernels = conv_single_kernels<T>();
#pragma omp parallel num_threads(p.threads)
  {
    std::vector<float> plane(static_cast<size_t>(g.row.plane + kSlack));
    std::vector<float> scratch(static_cast<size_t>(g.row.width * kLanes));
#pragma omp for schedule(static)
    for (int64_t i = 0; i < p.B * p.in[0]; ++i) {
      const int64_t b = i / p.in[0], d = i % p.in[0] + p.padding[0];
      std::fill(plane.begin(), plane.end(), 0.0f);
      for (int64_t t = 0; t < p.kernel[0]; ++t) {
        const int64_t from = (d - t) / p.stride[0];
        if (d < t || (d - t) % p.stride[0] != 0 || from >= p.out[0]) continue;
        for (int64_t h = 0; h < p.out[1]; ++h) {
          const int64_t row = (b * p.out[0] + from) * p.out[1] + h;
          kernels.dgrad(g.row, static_cast<const T*>(p.y) + row * g.row.width * p.K,
                        taps.data() + t * p.K * kLanes, scratch.data(),
                        plane.data() + h * p.stride[1] * g.row.row);
        }
      }
      for (int64_t h = 0; h < p.in[1]; ++h) {
        T* to = static_cast<T*>(p.x) + (i * p.in[1] + h) * p.in[2];
        const float* row = plane.data() + (h + p.padding[1]) * g.row.row + p.padding[2];
        for (int64_t w = 0; w < p.in[2]; ++w) store(to[w], row[w]);
      }
    }
  }
}

template <class T>
void wgrad(const ConvSingleParams& p) {
  const Geometry g(p);
  const auto x = padded<T>(p, g);
  const int64_t size = p.kernel[0] * p.kernel[1] * 4 * p.K, chunks = p.B * p.out[0];
  std::vector<float> sums(static_cast<size_t>(chunks * size), 0.0f);
  const auto kernels = conv_single_kernels<T>();
#pragma omp parallel for schedule(static) num_threads(p.threads)
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t b = i / p.out[0], d = i % p.out[0];
    for (int64_t h = 0; h < p.out[1]; ++h) {
      const float* from =
          x.get() + (b * g.padded[0] + d * p.stride[0]) * g.row.plane + h * p.stride[1] * g.row.row;
      const T* gradient = static_cast<const T*>(p.y) + (i * p.out[1] + h) * g.row.width * p.K;
      kernels.wgrad(g.row, gradient, from, sums.data() + i * size);
    }
  }
  T* weight = static_cast<T*>(p.weight);
  for (int64_t k = 0; k < p.K; ++k) {
    for (int64_t t = 0; t < g.taps; ++t) {
      const int64_t plane = t / p.kernel[2], w = t % p.kernel[2];
      const int64_t at = ((plane * (p.K / kLanes) + k / kLanes) * 4 + w) * kLanes + k % kLanes;
      double total = 0;
      for (int64_t i = 0; i < chunks; ++i) total += sums[i * size + at];
      store(weight[k * g.taps + t], static_cast<float>(total));
    }
  }
}

template <class Pass>
void by_storage(Dtype dtype, const Pass& pass) {
  if (dtype == Dtype::kBFloat16) return pass(BFloat16());
  pass(float());
}

}  // namespace

void conv_single_fprop(const ConvSingleParams& params) {
  by_storage(params.dtype, [&](auto type) { fprop<decltype(type)>(params); });
}

void conv_single_dgrad(const ConvSingleParams& params) {
  by_storage(params.dtype, [&](auto type) { dgrad<decltype(type)>(params); });
}

void conv_single_wgrad(const ConvSingleParams& params) {
  by_storage(params.dtype, [&](auto type) { wgrad<decltype(type)>(params); });
}

}  // namespace fastgan::cpu
