#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/ceil_div.h"
#include "cpu/aligned.h"
#include "cpu/conv3d/conv3d.h"
#include "cpu/conv3d/packed/wgrad_kernels.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kLanes = ConvPackedWgradParams::kLanes;
// A block of outputs and the inputs it meets stay in the first-level cache while all taps of a
// plane pass over them, and are long enough to hide that the sums are read and written.
constexpr int64_t kBlockWidth = 32, kBlockOutputs = 64, kBlockChannels = 32;
// Sums are float32 within a slice of planes, float64 over slices.
constexpr int64_t kItems = 32, kMinSliceOutputs = 256;

// One item of work: a plane of taps for some output and input channels, over a slice of planes of
// outputs. Items depend on the shape alone.
struct Partition {
  explicit Partition(const ConvPackedWgradParams& p) {
    pitch = std::min(p.C, kLanes);
    wide = kLanes / pitch;
    taps = p.kernel[1] * p.kernel[2] / wide;
    blocks_k = ceil_div(p.K, kBlockChannels);
    block_k = ceil_div(p.K, blocks_k);
    blocks_c = p.C / pitch;
    planes = p.B * p.out[0];
    const int64_t tiles = p.kernel[0] * blocks_k * blocks_c;
    const int64_t worthwhile = planes * p.out[1] * p.out[2] / kMinSliceOutputs;
    slices = std::clamp<int64_t>(std::min(ceil_div(kItems, tiles), worthwhile), 1, planes);
    items = slices * tiles;
    width = std::min(p.out[2], kBlockWidth);
    rows = std::clamp<int64_t>(kBlockOutputs / width, 1, p.out[1]);
    block = width * rows * std::max<int64_t>(kBlockOutputs / (width * rows), 1);
    for (int i = 0; i < 2; ++i) padded[i] = p.in[1 + i] + 2 * p.padding[1 + i];
  }

  int64_t item_size() const { return taps * block_k * kLanes; }
  // First output channel of a block; blocks are of nearly equal size.
  int64_t first_k(const ConvPackedWgradParams& p, int64_t block) const {
    return p.K * block / blocks_k;
  }

  int64_t pitch, wide;        // channels of a packed voxel, and neighbours that fill 16 lanes
  int64_t taps;               // kH kW / wide
  int64_t blocks_k, block_k;  // blocks of output channels, and their largest size
  int64_t blocks_c;           // blocks of input channels
  int64_t planes, slices, items;
  int64_t rows, width;  // of a rectangle of outputs
  int64_t block;        // outputs added at once, of one rectangle in one or more planes
  int64_t padded[2];    // H and W of x with its padding
};

// float32 copies of g and x in which what an item reads lies side by side.
template <class T>
class Packed {
 public:
  Packed(const ConvPackedWgradParams& params, const Partition& part)
      : p_(params),
        part_(part),
        g_(aligned_floats(part.blocks_k * g_block())),
        x_(aligned_floats(params.B * part.blocks_c * params.in[0] * x_plane())) {}

  // g [blocks_k, B, D', H', W', block_k], x [B, blocks_c, D, padded H, padded W, pitch]
  const float* g(int64_t block) const { return g_.get() + block * g_block(); }
  const float* x() const { return x_.get(); }
  int64_t x_plane() const { return part_.padded[0] * part_.padded[1] * part_.pitch; }

  int64_t planes_of_g() const { return part_.planes; }
  int64_t planes_of_x() const { return p_.B * p_.in[0]; }

  void pack_g(int64_t plane) const {
    const int64_t size = p_.out[1] * p_.out[2];
    for (int64_t block = 0; block < part_.blocks_k; ++block) {
      const int64_t k = part_.first_k(p_, block), channels = part_.first_k(p_, block + 1) - k;
      const T* from = static_cast<const T*>(p_.g) + plane * size * p_.K + k;
      float* to = g_.get() + block * g_block() + plane * size * part_.block_k;
      for (int64_t o = 0; o < size; ++o, from += p_.K, to += part_.block_k) {
#pragma omp simd
        for (int64_t i = 0; i < channels; ++i) to[i] = load(from[i]);
      }
    }
  }

  // Plane b D + d, every block of channels, with zeros around it.
  void pack_x(int64_t plane) const {
    const int64_t b = plane / p_.in[0], d = plane % p_.in[0], pitch = part_.pitch;
    const int64_t row = part_.padded[1] * pitch, beside = p_.padding[2] * pitch;
    for (int64_t block = 0; block < part_.blocks_c; ++block) {
      float* to = x_.get() + ((b * part_.blocks_c + block) * p_.in[0] + d) * x_plane();
      std::fill_n(to, p_.padding[1] * row, 0.0f);
      std::fill_n(to + (p_.padding[1] + p_.in[1]) * row, p_.padding[1] * row, 0.0f);
      to += p_.padding[1] * row;
      const T* from =
          static_cast<const T*>(p_.x) + plane * p_.in[1] * p_.in[2] * p_.C + block * pitch;
      for (int64_t h = 0; h < p_.in[1]; ++h, to += row) {
        std::fill_n(to, beside, 0.0f);
        std::fill_n(to + row - beside, beside, 0.0f);
        for (int64_t w = 0; w < p_.in[2]; ++w, from += p_.C) {
          float* voxel = to + beside + w * pitch;
#pragma omp simd
          for (int64_t i = 0; i < pitch; ++i) voxel[i] = load(from[i]);
        }
      }
    }
  }

 private:
  int64_t g_block() const { return part_.planes * p_.out[1] * p_.out[2] * part_.block_k; }

  const ConvPackedWgradParams& p_;
  const Partition& part_;
  const AlignedFloats g_, x_;  // every element that is read is written before
};

// Sums of one item.
template <class T>
class Item {
 public:
  Item(const ConvPackedWgradParams& params, const Partition& part, const Packed<T>& packed)
      : p_(params),
        part_(part),
        packed_(packed),
        kernel_(conv_packed_wgrad_kernel()),
        all_(part.block),
        met_(part.block) {}

  // every_sum [blocks_k, blocks_c, kD, slices, kH, kW / wide, block_k, 16]
  void run(int64_t index, float* every_sum) {
    // taps along D follow each other: they meet the same planes, which a cache still holds
    tap_ = index % p_.kernel[0];
    const int64_t slice = index / p_.kernel[0] % part_.slices;
    const int64_t block = index / p_.kernel[0] / part_.slices;
    c_ = block % part_.blocks_c;
    k_ = block / part_.blocks_c;
    const int64_t place = (block * p_.kernel[0] + tap_) * part_.slices + slice;
    float* sums = every_sum + place * part_.item_size();
    std::fill_n(sums, part_.item_size(), 0.0f);
    const int64_t begin = part_.planes * slice / part_.slices;
    const int64_t end = part_.planes * (slice + 1) / part_.slices;
    for (int64_t h = 0; h < p_.out[1]; h += part_.rows) {
      for (int64_t w = 0; w < p_.out[2]; w += part_.width) {
        add_rectangle({h, std::min(h + part_.rows, p_.out[1])},
                      {w, std::min(w + part_.width, p_.out[2])}, begin, end, sums);
      }
    }
  }

 private:
  // Outputs [first, last) of an axis that are worked on together.
  struct Range {
    int64_t first, last;
    int64_t size() const { return last - first; }
  };

  // Outputs of a plane that are worked on together, in planes [begin, end), as many planes at a
  // time as a block holds.
  void add_rectangle(Range rows, Range places, int64_t begin, int64_t end, float* sums) {
    int64_t planes = 0, count = 0;
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t b = plane / p_.out[0];
      const int64_t d = plane % p_.out[0] * p_.stride[0] + tap_ * p_.dilation[0] - p_.padding[0];
      if (d < 0 || d >= p_.in[0]) continue;
      const int64_t x_plane = ((b * part_.blocks_c + c_) * p_.in[0] + d) * packed_.x_plane();
      for (int64_t r = rows.first; r < rows.last; ++r) {
        const int64_t g_row = (plane * p_.out[1] + r) * p_.out[2];
        const int64_t x_row = x_plane + r * p_.stride[1] * part_.padded[1] * part_.pitch;
        for (int64_t o = places.first; o < places.last; ++o, ++count) {
          all_.of_g[count] = (g_row + o) * part_.block_k;
          all_.of_x[count] = x_row + o * p_.stride[2] * part_.pitch;
        }
      }
      ++planes;
      if (count + rows.size() * places.size() > part_.block) {
        add(rows, places, std::exchange(planes, 0), sums);
        count = 0;
      }
    }
    if (planes > 0) add(rows, places, planes, sums);
  }

  // Every tap of the plane, over the outputs in all_.
  void add(Range rows, Range places, int64_t planes, float* sums) {
    const int64_t row = p_.dilation[1] * part_.padded[1] * part_.pitch;
    ConvPackedWgradBlock block{};
    block.channels = part_.first_k(p_, k_ + 1) - part_.first_k(p_, k_);
    block.g = packed_.g(k_);
    for (int64_t h = 0; h < p_.kernel[1]; ++h) {
      const Range met_rows = meeting(1, rows, h, h);
      for (int64_t w = 0; w < p_.kernel[2]; w += part_.wide, sums += part_.block_k * kLanes) {
        const Range met_places = meeting(2, places, w, w + part_.wide - 1);
        const int64_t met = met_rows.size() * met_places.size(), all = rows.size() * places.size();
        // the rest lies in the padding; where it is little, leaving it out costs more
        const bool most = 8 * met > 7 * all;
        if (!most) pick(rows, places, met_rows, met_places, planes);
        const Outputs& outputs = most ? all_ : met_;
        block.outputs = planes * (most ? all : met);
        block.of_g = outputs.of_g.data();
        block.of_x = outputs.of_x.data();
        block.x = packed_.x() + h * row + w * p_.dilation[2] * part_.pitch;
        kernel_(block, sums);
      }
    }
  }

  // Of the outputs [first, last) those that meet the volume by one of taps [low, high].
  Range meeting(int axis, Range outputs, int64_t low, int64_t high) const {
    const int64_t stride = p_.stride[axis], step = p_.dilation[axis];
    const int64_t begin = p_.padding[axis] - high * step;
    const int64_t end = p_.in[axis] + p_.padding[axis] - low * step;
    Range met{std::max(outputs.first, begin > 0 ? ceil_div(begin, stride) : 0),
              std::min(outputs.last, end > 0 ? ceil_div(end, stride) : 0)};
    met.last = std::max(met.first, met.last);
    return met;
  }

  // met_ = some of the rectangle in all_, plane by plane.
  void pick(Range rows, Range places, Range met_rows, Range met_places, int64_t planes) {
    int64_t count = 0;
    for (int64_t plane = 0; plane < planes; ++plane) {
      for (int64_t r = met_rows.first; r < met_rows.last; ++r) {
        const int64_t row = (plane * rows.size() + r - rows.first) * places.size();
        for (int64_t o = met_places.first; o < met_places.last; ++o, ++count) {
          met_.of_g[count] = all_.of_g[row + o - places.first];
          met_.of_x[count] = all_.of_x[row + o - places.first];
        }
      }
    }
  }

  // Where each of some outputs begins in g, and what the first tap of a plane meets in x.
  struct Outputs {
    explicit Outputs(int64_t size) : of_g(size), of_x(size) {}
    std::vector<int64_t> of_g, of_x;
  };

  const ConvPackedWgradParams& p_;
  const Partition& part_;
  const Packed<T>& packed_;
  const ConvPackedWgradKernel kernel_;
  Outputs all_, met_;                // of a block, and those that meet the volume by one tap
  int64_t tap_ = 0, c_ = 0, k_ = 0;  // of the item: tap along D, blocks of channels
};

// Row [kH, kW, C] of the weight's gradient for output channel k and tap d along D.
template <class T>
void write_row(const ConvPackedWgradParams& p, const Partition& part, const float* sums, int64_t k,
               int64_t d) {
  const int64_t block = ((k + 1) * part.blocks_k - 1) / p.K;
  const int64_t row = k - part.first_k(p, block), size = part.item_size();
  T* to = static_cast<T*>(p.weight) + (k * p.kernel[0] + d) * p.kernel[1] * p.kernel[2] * p.C;
  for (int64_t c = 0; c < p.C; c += kLanes) {
    const int64_t tile = (block * part.blocks_c + c / kLanes) * p.kernel[0] + d;
    for (int64_t tap = 0; tap < part.taps; ++tap) {
      const float* from = sums + tile * part.slices * size + (tap * part.block_k + row) * kLanes;
      double total[kLanes] = {};
      for (int64_t s = 0; s < part.slices; ++s, from += size) {
#pragma omp simd
        for (int64_t i = 0; i < kLanes; ++i) total[i] += from[i];
      }
      for (int64_t i = 0; i < kLanes; ++i)
        store(to[tap * part.wide * p.C + c + i], static_cast<float>(total[i]));
    }
  }
}

template <class T>
void wgrad(const ConvPackedWgradParams& p) {
  const Partition part(p);
  const int64_t size = part.item_size();
  // every element is written before it is read
  const AlignedFloats sums = aligned_floats(part.items * size);
  const Packed<T> packed(p, part);
#pragma omp parallel num_threads(p.threads)
  {
    Item<T> item(p, part, packed);
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < packed.planes_of_g(); ++i) packed.pack_g(i);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < packed.planes_of_x(); ++i) packed.pack_x(i);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < part.items; ++i) item.run(i, sums.get());
#pragma omp for schedule(static)
    for (int64_t i = 0; i < p.K * p.kernel[0]; ++i) {
      write_row<T>(p, part, sums.get(), i / p.kernel[0], i % p.kernel[0]);
    }
  }
}

}  // namespace

void conv_packed_wgrad(const ConvPackedWgradParams& params) {
  if (params.dtype == Dtype::kBFloat16) return wgrad<BFloat16>(params);
  wgrad<float>(params);
}

}  // namespace fastgan::cpu
