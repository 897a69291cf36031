"""The compilers of this machine: host compiler, CUDA toolkit with its architectures, and ninja.

For whatever builds sources of this folder: setup.py, csrc/emulation/build.py and bench/tools.
"""

from __future__ import annotations

import ctypes
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_CUDA_ARCHS = ("80", "90a", "100", "120")


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
