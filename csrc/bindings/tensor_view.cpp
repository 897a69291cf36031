#include "bindings/tensor_view.h"

#include <algorithm>
#include <unordered_map>

#include "bindings/dlpack.h"

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

using ReadTensor = int (*)(void* py_object, dlpack::Tensor* out);

// The reader that a type offers, or null. Types are few and live as long as the process; the
// interpreter lock guards the table.
ReadTensor reader_of(PyTypeObject* type) {
  static auto* known = new std::unordered_map<PyTypeObject*, ReadTensor>();
  const auto found = known->find(type);
  if (found != known->end()) return found->second;
  ReadTensor reader = nullptr;
  const py::handle handle(reinterpret_cast<PyObject*>(type));
  if (py::hasattr(handle, "__dlpack_c_exchange_api__")) {
    const py::object capsule = handle.attr("__dlpack_c_exchange_api__");
    auto* header = static_cast<dlpack::ExchangeApiHeader*>(
        PyCapsule_GetPointer(capsule.ptr(), dlpack::kCapsuleName));
    if (!header) throw py::error_already_set();
    // a newer producer may list older interfaces behind its own
    while (header && header->version.major != dlpack::kMajorVersion) header = header->previous;
    if (header) {
      reader = reinterpret_cast<dlpack::ExchangeApi*>(header)->tensor_from_py_object_no_sync;
    }
  }
  handle.inc_ref();  // the address must not be given to another type
  (*known)[type] = reader;
  return reader;
}

std::optional<Dtype> dtype_of(uint8_t code, uint8_t bits, uint16_t lanes) {
  if (lanes != 1) return std::nullopt;
  if (code == dlpack::kFloat && bits == 32) return Dtype::kFloat32;
  if (code == dlpack::kFloat && bits == 64) return Dtype::kFloat64;
  if (code == dlpack::kBfloat && bits == 16) return Dtype::kBFloat16;
  if (code == dlpack::kFloat && bits == 16) return Dtype::kFloat16;
  if (code == dlpack::kInt && bits == 64) return Dtype::kInt64;
  if (code == dlpack::kInt && bits == 16) return Dtype::kInt16;
  if (code == dlpack::kInt && bits == 8) return Dtype::kInt8;
  if (code == dlpack::kUInt && bits == 8) return Dtype::kUInt8;
  return std::nullopt;
}

std::optional<Dtype> dtype_of(const std::string& name) {
  if (name == "torch.float32") return Dtype::kFloat32;
  if (name == "torch.float64") return Dtype::kFloat64;
  if (name == "torch.bfloat16") return Dtype::kBFloat16;
  if (name == "torch.float16") return Dtype::kFloat16;
  if (name == "torch.int64") return Dtype::kInt64;
  if (name == "torch.int16") return Dtype::kInt16;
  if (name == "torch.int8") return Dtype::kInt8;
  if (name == "torch.uint8") return Dtype::kUInt8;
  return std::nullopt;
}

void check_ndim(int64_t ndim, const char* op, const char* name) {
  if (ndim < 0 || ndim > TensorView::kMaxDims) {
    fail_value(op, std::string(name) + " must have at most 8 dimensions", std::to_string(ndim));
  }
}

TensorView read(ReadTensor reader, py::handle object, const char* op, const char* name) {
  dlpack::Tensor tensor{};
  if (reader(object.ptr(), &tensor) != 0) throw py::error_already_set();
  check_ndim(tensor.ndim, op, name);
  TensorView view;
  view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  view.ndim = tensor.ndim;
  view.dtype = dtype_of(tensor.type_code, tensor.type_bits, tensor.type_lanes);
  view.cpu = tensor.device_type == dlpack::kCpu;
  view.cuda = tensor.device_type == dlpack::kCuda;
  if (view.cuda) view.device = tensor.device_id;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    const bool last = i == tensor.ndim - 1;
    view.sizes[i] = tensor.shape[i];
    int64_t row_major = 1;
    // sizes that overflow here are refused by check_extents
    if (!last) __builtin_mul_overflow(view.strides[i + 1], view.sizes[i + 1], &row_major);
    view.strides[i] = tensor.strides ? tensor.strides[i] : row_major;
  }
  return view;
}

TensorView read_attributes(py::handle object, const char* op, const char* name) {
  for (const char* attribute : {"data_ptr", "shape", "stride", "dtype", "device"}) {
    if (!py::hasattr(object, attribute)) {
      fail_type(op, std::string(name) + " must be a torch.Tensor",
                py::str(py::type::of(object)).cast<std::string>());
    }
  }
  const auto sizes = py::tuple(object.attr("shape"));
  const auto strides = py::tuple(object.attr("stride")());
  check_ndim(static_cast<int64_t>(sizes.size()), op, name);
  if (strides.size() != sizes.size()) {
    fail_type(op, std::string(name) + " must have a stride for each size",
              std::to_string(strides.size()));
  }
  TensorView view;
  view.data = reinterpret_cast<void*>(object.attr("data_ptr")().cast<uintptr_t>());
  view.ndim = static_cast<int>(sizes.size());
  for (int i = 0; i < view.ndim; ++i) {
    view.sizes[i] = sizes[i].cast<int64_t>();
    view.strides[i] = strides[i].cast<int64_t>();
  }
  view.dtype = dtype_of(py::str(object.attr("dtype")).cast<std::string>());
  const py::object device = object.attr("device");
  const auto type = py::str(device.attr("type")).cast<std::string>();
  view.cpu = type == "cpu";
  view.cuda = type == "cuda";
  if (view.cuda) view.device = device.attr("index").cast<int>();
  return view;
}

// The result of a method without arguments, or null where the object has none of that name.
py::object call(py::handle object, PyObject* method) {
  PyObject* result = PyObject_CallMethodNoArgs(object.ptr(), method);
  if (!result) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
    PyErr_Clear();
  }
  return py::reinterpret_steal<py::object>(result);
}

// Whether what the strides reach lies in the tensor's storage, which may have been freed or made
// smaller since. An object that has no storage of torch's is believed.
bool inside_storage(const TensorView& view, py::handle object) {
  static PyObject* const untyped_storage = PyUnicode_InternFromString("untyped_storage");
  static PyObject* const nbytes = PyUnicode_InternFromString("nbytes");
  static PyObject* const data_ptr = PyUnicode_InternFromString("data_ptr");
  const py::object storage = call(object, untyped_storage);
  if (!storage) return true;
  const uintptr_t size = call(storage, nbytes).cast<uintptr_t>();
  const uintptr_t first = call(storage, data_ptr).cast<uintptr_t>();
  __int128 reach = 1;
  for (int i = 0; i < view.ndim; ++i) reach += __int128{view.sizes[i] - 1} * view.strides[i];
  const auto begin = reinterpret_cast<uintptr_t>(view.data);
  const __int128 end = __int128{begin} + reach * (view.dtype ? element_size(*view.dtype) : 1);
  return first && begin >= first && end <= __int128{first} + size;
}

// Refuses what arithmetic on sizes, or reading the first element, could not survive.
void check_extents(const TensorView& view, py::handle object, const char* op, const char* name) {
  int64_t extents[TensorView::kMaxDims];
  for (int i = 0; i < view.ndim; ++i) extents[i] = std::max<int64_t>(view.sizes[i], 1);
  const int64_t* end = view.sizes.data() + view.ndim;
  if (std::any_of(view.sizes.data(), end, [](int64_t size) { return size < 0; }) ||
      checked_product(extents, view.ndim) < 0) {
    fail_value(op, std::string(name) + " must have sizes that memory can hold", view.describe());
  }
  if (view.numel() == 0) return;
  if (!view.data || ((view.cpu || view.cuda) && !inside_storage(view, object))) {
    fail_value(op, std::string(name) + " must have storage",
               view.describe() + ", freed or made smaller");
  }
}

const char* dtype_name(const std::optional<Dtype>& dtype) {
  if (!dtype) return "another dtype";
  switch (*dtype) {
    case Dtype::kFloat32:
      return "float32";
    case Dtype::kBFloat16:
      return "bfloat16";
    case Dtype::kFloat64:
      return "float64";
    case Dtype::kFloat16:
      return "float16";
    case Dtype::kInt64:
      return "int64";
    case Dtype::kInt16:
      return "int16";
    case Dtype::kInt8:
      return "int8";
    default:
      return "uint8";
  }
}

}  // namespace

const Home kCpuHome{[](const TensorView& view) { return view.cpu; }, "on the CPU"};

int64_t TensorView::numel() const {
  int64_t size = 1;
  for (int i = 0; i < ndim; ++i) size *= sizes[i];
  return size;
}

bool TensorView::contiguous(Layout layout) const {
  if (numel() == 0) return true;
  int64_t expected = 1;
  const auto next = [&](int i) {
    const bool fits = sizes[i] == 1 || strides[i] == expected;
    expected *= sizes[i];
    return fits;
  };
  const bool last = layout == Layout::kChannelsLast;
  if (last && !next(1)) return false;
  for (int i = ndim - 1; i >= 0; --i) {
    if (!(last && i == 1) && !next(i)) return false;
  }
  return true;
}

std::string TensorView::describe() const {
  return std::string(dtype_name(dtype)) + " " + shape_text(sizes.data(), ndim) +
         (cpu    ? " on cpu"
          : cuda ? " on cuda:" + std::to_string(device)
                 : " on another device");
}

int64_t checked_product(const int64_t* factors, int count) {
  constexpr int64_t kMost = int64_t{1} << 60;
  int64_t product = 1;
  for (int i = 0; i < count; ++i) {
    if (factors[i] < 0 || __builtin_mul_overflow(product, factors[i], &product) ||
        product > kMost) {
      return -1;
    }
  }
  return product;
}

int bounded_threads(int asked) { return std::clamp(asked, 1, 1024); }

std::string shape_text(const int64_t* sizes, int ndim) {
  std::string text = "[";
  for (int i = 0; i < ndim; ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

TensorView view_of(py::handle object, const char* op, const char* name) {
  const ReadTensor reader = reader_of(Py_TYPE(object.ptr()));
  const TensorView view =
      reader ? read(reader, object, op, name) : read_attributes(object, op, name);
  check_extents(view, object, op, name);
  return view;
}

void fail_value(const std::string& op, const std::string& rule, const std::string& got) {
  throw py::value_error(op + ": " + rule + ", got " + got);
}

void fail_type(const std::string& op, const std::string& rule, const std::string& got) {
  throw py::type_error(op + ": " + rule + ", got " + got);
}

}  // namespace fastgan::bindings
