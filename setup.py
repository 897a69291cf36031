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

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "csrc"))
from toolchain import (  # noqa: E402
    BuildError,
    CudaToolkit,
    cuda_configuration,
    find_ninja,
    gencode_flags,
    run,
    supports_openmp,
)

# each level is one more object file of every *kernels.cpp of csrc/cpu; cpuid picks at run time
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


def isa_levels(machine: str) -> list[str]:
    """ISA levels to compile for a processor family: baseline alone anywhere but on x86-64."""
    return list(ISA_FLAGS) if machine in ("x86_64", "AMD64") else ["baseline"]


def cuda_sources() -> str:
    """SHA-256 of what the CUDA kernels are compiled from: a certificate holds for that alone."""
    total = hashlib.sha256()
    for folder in ("core", "cuda"):
        for path in sorted((ROOT / "csrc" / folder).rglob("*.*")):
            name = path.relative_to(ROOT / "csrc").as_posix()
            total.update(name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def build_info_header(
    compiler: str,
    isas: list[str],
    toolkit: CudaToolkit | None,
    archs: list[str],
    reason: str,
    openmp: bool,
) -> str:
    """C++ header with what `ops.implementations.extension.build_info()` reports."""
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

    def sources(folder: str, suffix: str) -> list[Path]:
        return sorted((ROOT / "csrc" / folder).rglob(f"*{suffix}"))

    def compile_with(rule: str, source: Path, suffix: str, **variables: str) -> None:
        # folders and all: many operators have a fwd
        target = source.relative_to(ROOT / "csrc").with_suffix(suffix).as_posix()
        objects.append(target)
        lines.append(f"build {target}: {rule} {quoted(source)}")
        lines.extend(f"  {name} = {value}" for name, value in variables.items())

    for source in sources("cpu", ".cpp"):
        if not source.stem.endswith("kernels"):
            compile_with("cxx", source, ".o")
            continue
        for isa in isas:
            flags = shlex.join([*ISA_FLAGS[isa], f"-DFASTGAN_ISA={isa}"])
            compile_with("cxx", source, f".{isa}.o", flags=flags)
    definitions = [f"-DFASTGAN_WITH_CUDA={int(toolkit is not None)}"]
    for source in sources("bindings", ".cpp"):
        if source.stem.endswith("_cuda") and not toolkit:
            continue
        include_flags = [flag for include in includes for flag in ("-isystem", include)]
        flags = shlex.join(definitions + include_flags)
        compile_with("cxx", source, ".o", flags=flags)
    libraries = ""
    if toolkit:
        words = shlex.join([str(toolkit.nvcc), *NVCC_FLAGS, *gencode_flags(archs), *core])
        lines += [
            "rule nvcc",
            f"  command = {words} -MD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
        ]
        for source in sources("cuda", ".cu"):
            compile_with("nvcc", source, ".o")
        libraries = shlex.join(["-L", str(toolkit.library_dir)])
        libraries += " -lcudart_static -ldl -lrt -lpthread"
    lines += [f"build {output}: link {' '.join(objects)}", f"  libraries = {libraries}"]
    return "\n".join([*lines, f"default {output}", ""])


def compile_extension(target: Path) -> None:
    """Configure, run ninja in build/native/<interpreter>, kept between calls, and copy the library.

    `target` is where it goes; bench/gpu/build.py calls this without setuptools' commands.
    """
    if not sys.platform.startswith("linux"):
        raise BuildError(f"fastgan's extension builds on Linux alone, got {sys.platform}")
    import pybind11

    cxx = os.environ.get("CXX", "c++")
    compiler = run(*shlex.split(cxx), "--version").splitlines()[0]
    openmp = supports_openmp(cxx)
    isas = isa_levels(platform.machine())
    toolkit, archs, reason = cuda_configuration(os.environ)
    print(f"fastgan: {compiler}; isa {isas}; OpenMP {openmp}; CUDA {archs or reason}", flush=True)
    folder = ROOT / "build" / "native" / f"{sys.implementation.cache_tag}-{platform.machine()}"
    folder.mkdir(parents=True, exist_ok=True)
    info = build_info_header(compiler, isas, toolkit, archs, reason, openmp)
    write_if_changed(folder / "build_info.h", info)
    includes = [sysconfig.get_path("include"), pybind11.get_include()]
    rules = ninja_file(cxx, isas, openmp, toolkit, archs, includes, target.name)
    write_if_changed(folder / "build.ninja", rules)
    done = subprocess.run([find_ninja(), "-C", str(folder)])
    if done.returncode:
        raise BuildError(f"ninja failed in {folder} ({done.returncode}); its output is above")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / target.name, target)


class NinjaBuild(build_ext):
    """Builds `fastgan._C` by ninja where setuptools wants it."""

    def build_extension(self, ext: Extension) -> None:
        """As `compile_extension`."""
        compile_extension(Path(self.get_ext_fullpath(ext.name)))


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
