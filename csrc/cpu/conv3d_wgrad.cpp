#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "cpu/conv3d.h"
#include "cpu/conv3d_wgrad_kernels.h"

namespace fastgan::cpu {
namespace {

constexpr int64_t kLanes = ConvWgradParams::kLanes;
// A block of outputs and the inputs it meets stay in the first-level cache while all taps of a
// plane pass over them, and are long enough to hide that the sums are read and written.
constexpr int64_t kBlockWidth = 32, kBlockOutputs = 64, kBlockChannels = 32;
// Sums are float32 within a slice of planes, float64 over slices.
constexpr int64_t kItems = 32, kMinSliceOutputs = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One item of work: a plane of taps for some output and input channels, over a slice of planes of
// outputs. Items depend on the shape alone.
struct Partition {
  explicit Partition(const ConvWgradParams& p) {
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
    together = std::clamp<int64_t>(kBlockOutputs / (width * rows), 1, planes);
    in_rows = (rows - 1) * p.stride[1] + (p.kernel[1] - 1) * p.dilation[1] + 1;
    in_width = (width - 1) * p.stride[2] + (p.kernel[2] - 1) * p.dilation[2] + 1;
  }

  int64_t item_size() const { return taps * block_k * kLanes; }

  int64_t pitch, wide;        // channels of a packed voxel, and neighbours that fill 16 lanes
  int64_t taps;               // kH kW / wide
  int64_t blocks_k, block_k;  // blocks of output channels, and their largest size
  int64_t blocks_c;           // blocks of input channels
  int64_t planes, slices, items;
  int64_t together;                        // planes of a block
  int64_t rows, width, in_rows, in_width;  // of a block of outputs, and of the inputs it meets
};

// Sums of one item, and its packed block.
template <class T>
class Item {
 public:
  Item(const ConvWgradParams& params, const Partition& part)
      : p_(params),
        part_(part),
        kernel_(conv_wgrad_kernel()),
        g_(part.together * part.rows * part.width * part.block_k),
        x_(part.together * part.in_rows * part.in_width * part.pitch),
        place_(part.together * part.rows * part.width) {}

  // sums [kH, kW / wide, block_k, 16]
  void run(int64_t index, float* sums) {
    const int64_t slice = index % part_.slices, tile = index / part_.slices;
    tap_ = tile % p_.kernel[0];
    c_ = tile / p_.kernel[0] % part_.blocks_c * part_.pitch;
    const int64_t block = tile / p_.kernel[0] / part_.blocks_c;
    k_ = p_.K * block / part_.blocks_k;
    channels_ = p_.K * (block + 1) / part_.blocks_k - k_;
    std::fill_n(sums, part_.item_size(), 0.0f);
    const int64_t begin = part_.planes * slice / part_.slices;
    const int64_t end = part_.planes * (slice + 1) / part_.slices;
    for (int64_t h = 0; h < p_.out[1]; h += part_.rows) {
      for (int64_t w = 0; w < p_.out[2]; w += part_.width) {
        h_ = h;
        w_ = w;
        rows_ = std::min(part_.rows, p_.out[1] - h);
        width_ = std::min(part_.width, p_.out[2] - w);
        add_planes(begin, end, sums);
      }
    }
  }

 private:
  // Place along an axis that an output's tap meets.
  int64_t input(int axis, int64_t out, int64_t tap) const {
    return out * p_.stride[axis] + tap * p_.dilation[axis] - p_.padding[axis];
  }

  // The rectangle of outputs at hand in planes [begin, end), as many at a time as a block holds.
  void add_planes(int64_t begin, int64_t end, float* sums) {
    int64_t packed = 0;
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t b = plane / p_.out[0], d = input(0, plane % p_.out[0], tap_);
      if (d < 0 || d >= p_.in[0]) continue;
      pack_g(plane, packed);
      pack_x(b * p_.in[0] + d, packed);
      if (++packed == part_.together) add(std::exchange(packed, 0), sums);
    }
    if (packed > 0) add(packed, sums);
  }

  void pack_g(int64_t plane, int64_t place) {
    float* to = g_.data() + place * rows_ * width_ * channels_;
    for (int64_t r = 0; r < rows_; ++r) {
      const T* from =
          static_cast<const T*>(p_.g) + ((plane * p_.out[1] + h_ + r) * p_.out[2] + w_) * p_.K + k_;
      for (int64_t o = 0; o < width_; ++o, from += p_.K, to += channels_) {
        for (int64_t k = 0; k < channels_; ++k) to[k] = load(from[k]);
      }
    }
  }

  // Rows [in_rows, in_width, pitch] from the first tap of the first output on, zeros where x ends.
  void pack_x(int64_t plane, int64_t place) {
    const int64_t pitch = part_.pitch;
    const int64_t in_rows = part_.in_rows - (part_.rows - rows_) * p_.stride[1];
    const int64_t in_width = part_.in_width - (part_.width - width_) * p_.stride[2];
    const int64_t left = input(2, w_, 0), top = input(1, h_, 0);
    const int64_t begin = std::clamp<int64_t>(-left, 0, in_width);
    const int64_t end = std::clamp<int64_t>(p_.in[2] - left, begin, in_width);
    for (int64_t r = 0; r < in_rows; ++r) {
      float* row = x_.data() + (place * part_.in_rows + r) * part_.in_width * pitch;
      if (top + r < 0 || top + r >= p_.in[1]) {
        std::fill_n(row, in_width * pitch, 0.0f);
        continue;
      }
      std::fill_n(row, begin * pitch, 0.0f);
      std::fill_n(row + end * pitch, (in_width - end) * pitch, 0.0f);
      const T* from = static_cast<const T*>(p_.x) +
                      ((plane * p_.in[1] + top + r) * p_.in[2] + left + begin) * p_.C + c_;
      for (int64_t i = begin; i < end; ++i, from += p_.C) {
        float* to = row + i * pitch;
#pragma omp simd
        for (int64_t c = 0; c < pitch; ++c) to[c] = load(from[c]);
      }
    }
  }

  void add(int64_t planes, float* sums) {
    const int64_t row = part_.in_width * part_.pitch;
    // one list for all taps, so that the kernel's loop is as long as the block
    int64_t* place = place_.data();
    for (int64_t p = 0; p < planes; ++p) {
      for (int64_t r = 0; r < rows_; ++r) {
        const int64_t first = (p * part_.in_rows + r * p_.stride[1]) * row;
        for (int64_t o = 0; o < width_; ++o) *place++ = first + o * p_.stride[2] * part_.pitch;
      }
    }
    ConvWgradBlock block{};
    block.outputs = planes * rows_ * width_;
    block.channels = channels_;
    block.place = place_.data();
    block.g = g_.data();
    for (int64_t h = 0; h < p_.kernel[1]; ++h) {
      for (int64_t w = 0; w < p_.kernel[2]; w += part_.wide, sums += part_.block_k * kLanes) {
        block.x = x_.data() + h * p_.dilation[1] * row + w * p_.dilation[2] * part_.pitch;
        kernel_(block, sums);
      }
    }
  }

  const ConvWgradParams& p_;
  const Partition& part_;
  const ConvWgradKernel kernel_;
  std::vector<float> g_, x_;
  std::vector<int64_t> place_;                      // of every output of a block
  int64_t tap_ = 0, c_ = 0, k_ = 0, channels_ = 0;  // of the item
  int64_t h_ = 0, w_ = 0, rows_ = 0, width_ = 0;    // the rectangle of outputs at hand
};

// Row [kH, kW, C] of the weight's gradient for output channel k and tap d along D.
template <class T>
void write_row(const ConvWgradParams& p, const Partition& part, const float* sums, int64_t k,
               int64_t d) {
  const int64_t block = ((k + 1) * part.blocks_k - 1) / p.K;
  const int64_t row = k - p.K * block / part.blocks_k, size = part.item_size();
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
void wgrad(const ConvWgradParams& p) {
  const Partition part(p);
  const int64_t size = part.item_size();
  // every element is written before it is read
  const std::unique_ptr<float[]> sums(new float[static_cast<size_t>(part.items * size)]);
#pragma omp parallel num_threads(p.threads)
  {
    Item<T> item(p, part);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < part.items; ++i) item.run(i, sums.get() + i * size);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < p.K * p.kernel[0]; ++i) {
      write_row<T>(p, part, sums.get(), i / p.kernel[0], i % p.kernel[0]);
    }
  }
}

}  // namespace

void conv_wgrad(const ConvWgradParams& params) {
  if (params.dtype == Dtype::kBFloat16) return wgrad<BFloat16>(params);
  wgrad<float>(params);
}

}  // namespace fastgan::cpu
