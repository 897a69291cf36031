// fold and unfold for Python. Outputs are allocated by the caller; see core/fold.h for the
// contract.
#include "cpu/fold/fold.h"

#include <pybind11/stl.h>

#include <array>

#include "bindings/module.h"
#include "bindings/tensor_view.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

TensorView volume(const char* op, py::handle object, const char* name) {
  const TensorView view = view_of(object, op, name);
  if (!view.dtype) fail_type(op, std::string(name) + " has a dtype of no kernel", view.describe());
  if (!view.cpu || view.ndim != 5 || !view.contiguous(Layout::kChannelsLast)) {
    fail_value(op, std::string(name) + " must be contiguous on the CPU, channels last",
               view.describe());
  }
  return view;
}

template <void (*kPass)(const FoldParams&)>
void run(const char* op, const TensorView& wide, const TensorView& deep, bool folds,
         const std::array<int64_t, 3>& factors, int threads) {
  FoldParams params{};
  params.B = wide.sizes[0];
  params.C = wide.sizes[1];
  bool fits = deep.sizes[0] == params.B && wide.dtype == deep.dtype;
  for (int i = 0; i < 3; ++i) {
    params.size[i] = deep.sizes[2 + i];
    params.factor[i] = factors[i];
    const int64_t extents[] = {deep.sizes[2 + i], factors[i]};
    fits = fits && factors[i] >= 1 && wide.sizes[2 + i] == checked_product(extents, 2);
  }
  const int64_t channels[] = {params.C, factors[0], factors[1], factors[2]};
  if (!fits || deep.sizes[1] != checked_product(channels, 4)) {
    fail_value(op, "[B, C, D f0, ...] and [B, f0 f1 f2 C, D, ...] must fit together",
               wide.describe() + ", " + deep.describe());
  }
  params.width = element_size(*wide.dtype);
  params.threads = bounded_threads(threads);
  params.from = folds ? wide.data : deep.data;
  params.to = folds ? deep.data : wide.data;
  py::gil_scoped_release unlocked;
  kPass(params);
}

void fold(py::handle x, const std::array<int64_t, 3>& factors, int threads, py::handle y) {
  run<cpu::fold>("fold", volume("fold", x, "x"), volume("fold", y, "y"), true, factors, threads);
}

void unfold(py::handle x, const std::array<int64_t, 3>& factors, int threads, py::handle y) {
  run<cpu::unfold>("unfold", volume("unfold", y, "y"), volume("unfold", x, "x"), false, factors,
                   threads);
}

}  // namespace

void bind_fold(py::module_& module) {
  module.def("fold", &fold, "Writes y.");
  module.def("unfold", &unfold, "Writes y.");
}

}  // namespace fastgan::bindings
