"""Build of `fastgan._C`: C++20 and, where nvcc is found, CUDA, compiled by ninja without torch.

Environment (each is an error when it holds anything else):
  FASTGAN_CUDA        auto (default): compile CUDA when nvcc is found and works; 0: never;
                      1: fail with the reason when it cannot be compiled
  FASTGAN_CUDA_ARCHS  list such as "80;90a;100", or "native" for the GPUs of this machine; left
                      unset, those of the default list that the compiler has. The newest also
                      comes as PTX.
  CXX                 host compiler (default c++); must be GCC or Clang
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
DEFAULT_CUDA_ARCHS = ("80", "90a", "100")
# each level is one more object file of every csrc/cpu/*_kernels.cpp; cpuid picks at run time
ISA_FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": [
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"),
        "-mprefer-vector-width=512",
    ],
}
CXX_FLAGS = [
    *("-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden"),
    *("-fvisibility-inlines-hidden", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-Wall", "-Wextra"),
]
NVCC_FLAGS = ["-std=c++20", "-O3", "-DNDEBUG", "-lineinfo", "--cudart=static"]
NVCC_FLAGS += ["-Xcompiler=-fPIC,-fvisibility=hidden", "-Xcudafe=--diag_suppress=177"]


class BuildError(RuntimeError):
    """The build cannot go on; the message names the rule and what was found."""


@dataclass(frozen=True)
class CudaToolkit:
    """A CUDA compiler that was found: its path, root folder, version and real architectures."""

    nvcc: Path
    root: Path
    version: str
    archs: tuple[str, ...]

    @property
    def library_dir(self) -> Path:
        """Folder of libcudart_static.a."""
        places = (
            "lib64",
            f"targets/{platform.machine()}-linux/lib",
            "targets/sbsa-linux/lib",
            "lib",
        )
        for place in places:
            if (self.root / place / "libcudart_static.a").is_file():
                return self.root / place
        raise BuildError(f"CUDA toolkit {self.root}: libcudart_static.a not found in {places}")


def run(*command: str | Path) -> str:
    """Standard output and error of a command; BuildError with both when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise BuildError(f"{words[0]} cannot be run: {error}") from error
    if done.returncode:
        raise BuildError(
            f"`{shlex.join(words)}` failed ({done.returncode}):\n{done.stdout[-4000:]}"
        )
    return done.stdout


def cuda_mode(environ: Mapping[str, str]) -> str:
    """FASTGAN_CUDA, checked: auto, 0 or 1."""
    value = environ.get("FASTGAN_CUDA", "auto")
    if value not in ("auto", "0", "1"):
        raise BuildError(f"FASTGAN_CUDA must be auto, 0 or 1, got {value!r}")
    return value


def isa_levels(machine: str) -> list[str]:
    """ISA levels to compile for a processor family: baseline alone anywhere but on x86-64."""
    return list(ISA_FLAGS) if machine in ("x86_64", "AMD64") else ["baseline"]


def parse_toolkit_root(dryrun: str) -> Path:
    """Toolkit root from the TOP= line of `nvcc --dryrun`: right also when nvcc is a wrapper."""
    match = re.search(r"^#\$ TOP=(.+)$", dryrun, re.MULTILINE)
    if not match:
        raise BuildError("nvcc --dryrun printed no TOP= line, so the toolkit root is unknown")
    return Path(match.group(1).strip()).resolve()


def find_cuda_toolkit(environ: Mapping[str, str]) -> CudaToolkit:
    """The toolkit of CUDA_HOME, else of the nvcc on PATH, after one trial compilation."""
    if home := environ.get("CUDA_HOME"):
        nvcc = Path(home) / "bin" / "nvcc"
        if not nvcc.is_file():
            raise BuildError(f"CUDA_HOME is {home}, but {nvcc} does not exist")
    elif found := shutil.which("nvcc", path=environ.get("PATH")):
        nvcc = Path(found)
    else:
        raise BuildError("nvcc not found: CUDA_HOME is unset and nvcc is not on PATH")
    match = re.search(r"release (\d+)\.(\d+)", run(nvcc, "--version"))
    if not match or int(match.group(1)) < 12:
        got = match.group(0) if match else "no version"
        raise BuildError(f"{nvcc}: CUDA 12.0 or newer is needed for C++20, got {got}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cu"
        source.write_text("__global__ void probe(int* x) { *x = 1; }\n")
        root = parse_toolkit_root(run(nvcc, "--dryrun", "-c", source))
        run(nvcc, "-std=c++20", "-c", source, "-o", source.with_suffix(".o"))
    codes = re.findall(r"sm_(\w+)", run(nvcc, "--list-gpu-code"))
    toolkit = CudaToolkit(nvcc, root, f"{match.group(1)}.{match.group(2)}", tuple(codes))
    _ = toolkit.library_dir
    return toolkit


def native_cuda_archs() -> list[str]:
    """Compute capabilities of this machine's GPUs, asked of the driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BuildError(f"FASTGAN_CUDA_ARCHS=native needs a GPU driver: {error}") from error
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise BuildError("FASTGAN_CUDA_ARCHS=native needs a GPU, and the driver shows none")
    archs = set()
    for device in range(count.value):
        numbers = []
        for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
            number = ctypes.c_int()
            driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
            numbers.append(number.value)
        # "a" unlocks the instructions of exactly this chip (wgmma and its like), from Hopper on
        archs.add(f"{numbers[0]}{numbers[1]}" + ("a" if numbers[0] >= 9 else ""))
    return sorted(archs)


def parse_cuda_archs(environ: Mapping[str, str], available: tuple[str, ...]) -> list[str]:
    """Architectures to compile, such as ["80", "90a"], each one that the compiler has."""

    def has(arch: str) -> bool:
        return arch in available or arch.rstrip("af") in available

    text = environ.get("FASTGAN_CUDA_ARCHS")
    if text is None:
        archs = [arch for arch in DEFAULT_CUDA_ARCHS if has(arch)]
        if not archs:
            raise BuildError(f"nvcc has none of {DEFAULT_CUDA_ARCHS}; set FASTGAN_CUDA_ARCHS")
        return archs
    if text == "native":
        archs = native_cuda_archs()
    else:
        archs = [part.strip() for part in text.split(";") if part.strip()]
    if not archs or not all(re.fullmatch(r"\d{2,3}[af]?", arch) for arch in archs):
        raise BuildError(
            f'FASTGAN_CUDA_ARCHS must be "native" or a list such as "80;90a;100", got {text!r}'
        )
    if missing := [arch for arch in archs if not has(arch)]:
        raise BuildError(f"nvcc has no {missing} (FASTGAN_CUDA_ARCHS={text}); it has {available}")
    return sorted(set(archs), key=lambda arch: (int(arch.rstrip("af")), arch))


def gencode_flags(archs: list[str]) -> list[str]:
    """Flags of nvcc: machine code of each architecture, and PTX of the newest."""
    flags = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    # PTX of an "a" architecture runs on no other chip, so the plain one stands in
    newest = archs[-1].rstrip("af")
    return [*flags, f"-gencode=arch=compute_{newest},code=compute_{newest}"]


def cuda_configuration(
    environ: Mapping[str, str],
) -> tuple[CudaToolkit | None, list[str], str]:
    """The toolkit to use or None, the architectures, and why there is none ("" if there is)."""
    mode = cuda_mode(environ)
    if mode == "0":
        return None, [], "switched off by FASTGAN_CUDA=0"
    try:
        toolkit = find_cuda_toolkit(environ)
    except BuildError as error:
        if mode == "1":
            raise BuildError(f"FASTGAN_CUDA=1, but CUDA cannot be compiled: {error}") from error
        return None, [], str(error).splitlines()[0]
    return toolkit, parse_cuda_archs(environ, toolkit.archs), ""


def cuda_sources() -> str:
    """SHA-256 of what the CUDA kernels are compiled from: a certificate holds for that alone."""
    total = hashlib.sha256()
    for folder in ("core", "cuda"):
        for path in sorted((ROOT / "csrc" / folder).iterdir()):
            total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def build_info_header(
    compiler: str,
    isas: list[str],
    toolkit: CudaToolkit | None,
    archs: list[str],
    reason: str,
    openmp: bool,
) -> str:
    """C++ header with what `fastgan.ops.native.build_info()` reports."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "fastgan/__init__.py").read_text())
    texts = {
        "kVersion": version.group(1) if version else "",
        "kCompiler": compiler,
        "kFlags": shlex.join(CXX_FLAGS),
        "kIsaLevels": ";".join(isas),
        "kCudaVersion": toolkit.version if toolkit else "",
        "kCudaArchs": ";".join(archs),
        "kCudaReason": reason,
        "kCudaSources": cuda_sources() if toolkit else "",
    }
    lines = ["// Written by setup.py.", "#pragma once", "namespace fastgan::build_info {"]
    for name, text in texts.items():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'inline constexpr char {name}[] = "{escaped}";')
    lines.append(f"inline constexpr bool kOpenMp = {str(openmp).lower()};")
    return "\n".join([*lines, "}  // namespace fastgan::build_info", ""])


def write_if_changed(path: Path, text: str) -> None:
    """Write a file; one that already says the same keeps its time stamp, so ninja stays idle."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def find_ninja() -> str:
    """The ninja of the Python package, else the one on PATH."""
    try:
        import ninja

        found = shutil.which("ninja", path=ninja.BIN_DIR)
    except ImportError:
        found = None
    found = found or shutil.which("ninja")
    if not found:
        raise BuildError("ninja not found: pip install ninja")
    return found


def ninja_file(
    cxx: str,
    isas: list[str],
    openmp: bool,
    toolkit: CudaToolkit | None,
    archs: list[str],
    includes: list[str],
    output: str,
) -> str:
    """Text of build.ninja. Sources are found by folder, so a new op needs no entry here."""

    def quoted(path: Path | str) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    omp = ["-fopenmp"] if openmp else []
    core = ["-I", str(ROOT / "csrc"), "-I", "."]
    lines = [
        "ninja_required_version = 1.10",
        "rule cxx",
        f"  command = {cxx} {shlex.join(CXX_FLAGS + omp + core)} $flags"
        " -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {cxx} -shared {shlex.join(omp)} -Wl,--as-needed $in $libraries -o $out",
    ]
    objects = []

    def compile_with(rule: str, source: Path, target: str, **variables: str) -> None:
        objects.append(target)
        lines.append(f"build {target}: {rule} {quoted(source)}")
        lines.extend(f"  {name} = {value}" for name, value in variables.items())

    for source in sorted((ROOT / "csrc" / "cpu").glob("*.cpp")):
        if not source.stem.endswith("_kernels"):
            compile_with("cxx", source, f"cpu/{source.stem}.o")
            continue
        for isa in isas:
            flags = shlex.join([*ISA_FLAGS[isa], f"-DFASTGAN_ISA={isa}"])
            compile_with("cxx", source, f"cpu/{source.stem}.{isa}.o", flags=flags)
    definitions = [f"-DFASTGAN_WITH_CUDA={int(toolkit is not None)}"]
    for source in sorted((ROOT / "csrc" / "bindings").glob("*.cpp")):
        if source.stem.endswith("_cuda") and not toolkit:
            continue
        include_flags = [flag for include in includes for flag in ("-isystem", include)]
        flags = shlex.join(definitions + include_flags)
        compile_with("cxx", source, f"bindings/{source.stem}.o", flags=flags)
    libraries = ""
    if toolkit:
        words = shlex.join([str(toolkit.nvcc), *NVCC_FLAGS, *gencode_flags(archs), *core])
        lines += [
            "rule nvcc",
            f"  command = {words} -MD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
        ]
        for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu")):
            compile_with("nvcc", source, f"cuda/{source.stem}.o")
        libraries = shlex.join(["-L", str(toolkit.library_dir)])
        libraries += " -lcudart_static -ldl -lrt -lpthread"
    lines += [f"build {output}: link {' '.join(objects)}", f"  libraries = {libraries}"]
    return "\n".join([*lines, f"default {output}", ""])


def supports_openmp(cxx: str) -> bool:
    """Whether the host compiler compiles and links OpenMP."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
        try:
            run(*shlex.split(cxx), "-fopenmp", source, "-o", source.with_suffix(""))
        except BuildError:
            return False
    return True


class NinjaBuild(build_ext):
    """Builds `fastgan._C` in build/native/<interpreter>, kept between calls, then copies it."""

    def build_extension(self, ext: Extension) -> None:
        """Configure, run ninja, and put the library where setuptools wants it."""
        if not sys.platform.startswith("linux"):
            raise BuildError(f"fastgan's extension builds on Linux alone, got {sys.platform}")
        import pybind11

        cxx = os.environ.get("CXX", "c++")
        compiler = run(*shlex.split(cxx), "--version").splitlines()[0]
        openmp = supports_openmp(cxx)
        isas = isa_levels(platform.machine())
        toolkit, archs, reason = cuda_configuration(os.environ)
        print(f"fastgan: {compiler}; isa {isas}; OpenMP {openmp}; CUDA {archs or reason}")
        folder = ROOT / "build" / "native" / f"{sys.implementation.cache_tag}-{platform.machine()}"
        folder.mkdir(parents=True, exist_ok=True)
        info = build_info_header(compiler, isas, toolkit, archs, reason, openmp)
        write_if_changed(folder / "build_info.h", info)
        includes = [sysconfig.get_path("include"), pybind11.get_include()]
        output = Path(self.get_ext_filename(ext.name)).name
        rules = ninja_file(cxx, isas, openmp, toolkit, archs, includes, output)
        write_if_changed(folder / "build.ninja", rules)
        done = subprocess.run([find_ninja(), "-C", str(folder)])
        if done.returncode:
            raise BuildError(f"ninja failed in {folder} ({done.returncode}); its output is above")
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / output, target)


if __name__ == "__main__":
    kernels, examples = (
        [f"fastgan.{folder}", *(f"fastgan.{folder}.{p}" for p in find_packages(folder))]
        for folder in ("kernels", "examples")
    )
    setup(
        packages=[*find_packages(include=["fastgan", "fastgan.*"]), *kernels, *examples],
        package_dir={"fastgan.kernels": "kernels", "fastgan.examples": "examples"},
        ext_modules=[Extension("fastgan._C", sources=[])],
        cmdclass={"build_ext": NinjaBuild},
    )
