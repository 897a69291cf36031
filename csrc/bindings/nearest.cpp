// nearest as seen from Python. Outputs are allocated by the caller; see core/nearest.h for the
// contract.
#include "cpu/nearest/nearest.h"

#include <algorithm>
#include <string>
#include <utility>

#include "bindings/module.h"
#include "bindings/tensor_view.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

constexpr const char* kOp = "nearest";

// A contiguous tensor on the CPU of these sizes and this dtype.
void* exactly(py::handle object, const char* name, Dtype dtype, const char* dtype_name,
              std::initializer_list<int64_t> sizes) {
  const TensorView view = view_of(object, kOp, name);
  bool fits = view.cpu && view.contiguous() && view.dtype == dtype &&
              view.ndim == static_cast<int>(sizes.size());
  for (int i = 0; fits && i < view.ndim; ++i) fits = view.sizes[i] == sizes.begin()[i];
  if (!fits) {
    fail_value(kOp,
               std::string(name) + " must be contiguous " + dtype_name + " " +
                   shape_text(sizes.begin(), static_cast<int>(sizes.size())) + " on the CPU",
               view.describe());
  }
  return view.data;
}

const int64_t* group(py::handle object, const char* name, int64_t rows) {
  if (object.is_none()) return nullptr;
  return static_cast<const int64_t*>(exactly(object, name, Dtype::kInt64, "int64", {rows}));
}

NearestParams::Path parse(const std::string& path) {
  using Path = NearestParams::Path;
  if (path == "auto") return Path::kAuto;
  if (path == "direct") return Path::kDirect;
  if (path == "dots") return Path::kDots;
  if (path == "wide") return Path::kWide;
  fail_value(kOp, "path must be auto, direct, dots or wide", path);
}

// Checks what both searches take.
NearestParams parse(py::handle query, py::handle target, int64_t k, py::handle query_group,
                    py::handle target_group, int threads, py::handle squared, py::handle index,
                    py::handle bad_query, py::handle bad_target) {
  const TensorView x = view_of(query, kOp, "query"), y = view_of(target, kOp, "target");
  for (const auto& [name, view] : {std::pair{"query", &x}, std::pair{"target", &y}}) {
    if (!view->cpu || !view->contiguous() || view->ndim != 2 || view->numel() == 0) {
      fail_value(kOp, std::string(name) + " must be contiguous [rows, F] on the CPU, not empty",
                 view->describe());
    }
  }
  if (!x.dtype || *x.dtype == Dtype::kInt64) {
    fail_type(kOp, "query must be floating, uint8, int8 or int16", x.describe());
  }
  if (y.dtype != x.dtype || y.sizes[1] != x.sizes[1]) {
    fail_value(kOp, "target must have dtype and F of query, " + x.describe(), y.describe());
  }
  NearestParams params{};
  params.N = x.sizes[0];
  params.M = y.sizes[0];
  params.F = x.sizes[1];
  params.k = k;
  if (k < 1 || k > params.M) fail_value(kOp, "k must be 1 to M", std::to_string(k));
  params.dtype = *x.dtype;
  params.query = x.data;
  params.target = y.data;
  params.query_group = group(query_group, "query_group", params.N);
  params.target_group = group(target_group, "target_group", params.M);
  if (!params.query_group != !params.target_group) {
    fail_value(kOp, "query_group and target_group must come together", "one of them");
  }
  params.threads = bounded_threads(threads);
  params.squared =
      static_cast<double*>(exactly(squared, "squared", Dtype::kFloat64, "float64", {params.N, k}));
  params.index =
      static_cast<int64_t*>(exactly(index, "index", Dtype::kInt64, "int64", {params.N, k}));
  params.bad_query =
      static_cast<uint8_t*>(exactly(bad_query, "bad_query", Dtype::kUInt8, "uint8", {params.N}));
  params.bad_target =
      static_cast<uint8_t*>(exactly(bad_target, "bad_target", Dtype::kUInt8, "uint8", {params.M}));
  return params;
}

void nearest(py::handle query, py::handle target, int64_t k, py::handle query_group,
             py::handle target_group, int threads, const std::string& path, py::handle squared,
             py::handle index, py::handle bad_query, py::handle bad_target) {
  NearestParams params = parse(query, target, k, query_group, target_group, threads, squared, index,
                               bad_query, bad_target);
  params.path = parse(path);
  py::gil_scoped_release unlocked;
  cpu::nearest(params);
}

NearestPyramid pyramid_of(int64_t slabs, int64_t depth, int64_t height, int64_t width) {
  const int64_t sizes[] = {slabs, depth, height, width};
  if (*std::min_element(sizes, sizes + 4) < 1 || checked_product(sizes, 4) < 0) {
    fail_value("nearest_pyramid", "[S, D, H, W] must be at least 1 and a row of memory",
               shape_text(sizes, 4));
  }
  return NearestPyramid::of(slabs, depth, height, width);
}

int64_t pyramid_width(int64_t slabs, int64_t depth, int64_t height, int64_t width) {
  return pyramid_of(slabs, depth, height, width).width();
}

void pyramid_build(py::handle volumes, int64_t slabs, int64_t depth, int64_t height, int64_t width,
                   int threads, py::handle coarse, py::handle error, py::handle bad) {
  const char* op = "nearest_pyramid";
  const NearestPyramid pyramid = pyramid_of(slabs, depth, height, width);
  const TensorView x = view_of(volumes, op, "volumes");
  if (!x.dtype || *x.dtype == Dtype::kInt64) {
    fail_type(op, "volumes must be floating, uint8, int8 or int16", x.describe());
  }
  if (!x.cpu || !x.contiguous() || x.ndim != 2 || x.sizes[1] != slabs * depth * height * width) {
    fail_value(op, "volumes must be contiguous [rows, S D H W] on the CPU", x.describe());
  }
  const int64_t rows = x.sizes[0];
  auto* to = static_cast<float*>(
      exactly(coarse, "coarse", Dtype::kFloat32, "float32", {rows, pyramid.width()}));
  auto* off = static_cast<double*>(exactly(error, "error", Dtype::kFloat64, "float64", {rows}));
  auto* flags = static_cast<uint8_t*>(exactly(bad, "bad", Dtype::kUInt8, "uint8", {rows}));
  py::gil_scoped_release unlocked;
  cpu::nearest_pyramid_build(pyramid, *x.dtype, x.data, rows, bounded_threads(threads), to, off,
                             flags);
}

void pyramid_search(py::handle query, py::handle target, int64_t k, py::handle query_group,
                    py::handle target_group, int threads, int64_t slabs, int64_t depth,
                    int64_t height, int64_t width, py::handle query_coarse, py::handle query_error,
                    py::handle target_coarse, py::handle target_error, py::handle squared,
                    py::handle index, py::handle bad_query, py::handle bad_target,
                    py::handle read) {
  NearestPyramidParams params{};
  params.search = parse(query, target, k, query_group, target_group, threads, squared, index,
                        bad_query, bad_target);
  params.pyramid = pyramid_of(slabs, depth, height, width);
  const int64_t N = params.search.N, M = params.search.M, coarse = params.pyramid.width();
  if (params.search.F != slabs * depth * height * width) {
    fail_value("nearest_pyramid", "S D H W must be F", std::to_string(params.search.F));
  }
  params.query_coarse = static_cast<const float*>(
      exactly(query_coarse, "query_coarse", Dtype::kFloat32, "float32", {N, coarse}));
  params.query_error = static_cast<const double*>(
      exactly(query_error, "query_error", Dtype::kFloat64, "float64", {N}));
  params.target_coarse = static_cast<const float*>(
      exactly(target_coarse, "target_coarse", Dtype::kFloat32, "float32", {M, coarse}));
  params.target_error = static_cast<const double*>(
      exactly(target_error, "target_error", Dtype::kFloat64, "float64", {M}));
  params.read = static_cast<int64_t*>(exactly(read, "read", Dtype::kInt64, "int64", {N}));
  py::gil_scoped_release unlocked;
  cpu::nearest_pyramid(params);
}

}  // namespace

void bind_nearest(py::module_& module) {
  module.def("nearest", &nearest, "Writes squared, index, bad_query and bad_target.");
  module.def("nearest_pyramid_width", &pyramid_width, "Numbers of a coarse row of [S, D, H, W].");
  module.def("nearest_pyramid_build", &pyramid_build, "Writes coarse, error and bad.");
  module.def("nearest_pyramid", &pyramid_search, "Writes squared, index and read.");
}

}  // namespace fastgan::bindings
