// What was built, what the processor has and what devices there are.
#include <algorithm>
#include <string>

#include "bindings/module.h"
#include "build_info.h"
#include "cpu/isa.h"
#if FASTGAN_WITH_CUDA
#include "cuda/device.h"
#endif

namespace fastgan::bindings {
namespace {

namespace py = pybind11;

py::list split(const std::string& text) {
  py::list words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(';', begin), text.size());
    words.append(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

py::dict build_info_dict() {
  py::dict info;
  info["version"] = build_info::kVersion;
  info["compiler"] = build_info::kCompiler;
  info["flags"] = build_info::kFlags;
  info["isa"] = split(build_info::kIsaLevels);
  info["openmp"] = build_info::kOpenMp;
  const bool cuda = FASTGAN_WITH_CUDA;
  info["cuda"] = cuda ? py::object(py::str(build_info::kCudaVersion)) : py::object(py::none());
  info["cuda_archs"] = split(build_info::kCudaArchs);
  info["cuda_reason"] =
      cuda ? py::object(py::none()) : py::object(py::str(build_info::kCudaReason));
  info["cuda_sources"] =
      cuda ? py::object(py::str(build_info::kCudaSources)) : py::object(py::none());
  return info;
}

py::dict cuda_devices() {
  py::dict report;
  py::list devices;
  report["error"] = py::none();
  report["driver"] = 0;
  report["runtime"] = 0;
#if FASTGAN_WITH_CUDA
  int driver = 0, runtime = 0, count = 0;
  int error = cuda::versions(&driver, &runtime);
  if (error == 0) error = cuda::device_count(&count);
  report["driver"] = driver;
  report["runtime"] = runtime;
  for (int index = 0; error == 0 && index < count; ++index) {
    cuda::DeviceInfo info;
    {
      py::gil_scoped_release unlocked;
      error = cuda::describe_device(index, &info);
    }
    if (error != 0) break;
    py::dict device;
    device["name"] = info.name;
    device["capability"] = py::make_tuple(info.major, info.minor);
    device["memory"] = info.total_memory;
    device["multiprocessors"] = info.multiprocessors;
    device["binary_version"] = info.binary_version;
    device["ptx_version"] = info.ptx_version;
    device["code_error"] = info.code_error == 0
                               ? py::object(py::none())
                               : py::object(py::str(cuda::error_text(info.code_error)));
    devices.append(device);
  }
  if (error != 0) report["error"] = cuda::error_text(error);
#else
  report["error"] = std::string("built without CUDA: ") + build_info::kCudaReason;
#endif
  report["devices"] = devices;
  return report;
}

py::tuple cuda_versions() {
  int driver = 0, runtime = 0;
#if FASTGAN_WITH_CUDA
  cuda::versions(&driver, &runtime);
#endif
  return py::make_tuple(driver, runtime);
}

void set_isa(const std::string& name) {
  if (!cpu::set_isa(name)) {
    throw py::value_error("set_isa: level must be auto or one of isa_levels(), got " + name);
  }
}

py::list isa_levels() {
  py::list levels;
  for (cpu::Isa level : {cpu::Isa::kBaseline, cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
    if (cpu::isa_available(level)) levels.append(cpu::isa_name(level));
  }
  return levels;
}

}  // namespace

void bind_build(py::module_& module) {
  module.attr("build_info") = build_info_dict();
  module.def("cuda_devices", &cuda_devices,
             "Versions of driver and runtime, visible CUDA devices, or the error text instead.");
  module.def("cuda_versions", &cuda_versions,
             "Versions that the driver takes and that this build brings, 0 for none; no context.");
  module.def("isa", [] { return cpu::isa_name(cpu::isa()); }, "Instruction set level in use.");
  module.def("isa_levels", &isa_levels, "Levels that this processor and this build have.");
  module.def("set_isa", &set_isa, "Chooses a level, or auto; for tests and measurements.");
}

}  // namespace fastgan::bindings
