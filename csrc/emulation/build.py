"""Builds the CUDA kernels for the CPU, with checks of every access, as a Python module.

    python csrc/emulation/build.py [thread|address]

By GCC: another compiler's hooks have other names.

thread (default): the kernels' loads and stores are held against csrc/emulation/memory.cpp. address:
AddressSanitizer holds them instead, which also sees arrays of a thread's own; such a module loads
where libasan is preloaded.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

CSRC = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CSRC))
from toolchain import find_ninja  # noqa: E402

NAME = "fastgan_emulated"
FLAGS = ["-std=c++20", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
# A kernel's own code: casts between packs and elements are what CUDA takes for granted, and its
# pragmas are not the host compiler's.
KERNEL = ["-O1", "-fno-strict-aliasing", "-Wno-unknown-pragmas", "-x", "c++"]
SANITIZER = {
    "thread": ["-fsanitize=thread"],
    "address": ["-fsanitize=address", "-fno-omit-frame-pointer"],
}


def rules(sanitizer: str) -> str:
    """Text of build.ninja."""
    import pybind11

    checked = SANITIZER[sanitizer]
    # the checks themselves are not checked, but AddressSanitizer must see who owns a stack
    own = checked if sanitizer == "address" else []
    python = ["-isystem", sysconfig.get_path("include"), "-isystem", pybind11.get_include()]
    include = ["-I", str(CSRC)]
    kernel = FLAGS + KERNEL + checked + ["-I", str(CSRC / "emulation"), *include]
    groups = {
        "kernel": (kernel, [*sorted((CSRC / "cuda").rglob("*.cu")), CSRC / "emulation/planted.cu"]),
        "runtime": ([*FLAGS, "-O1", *own, *include], sorted((CSRC / "emulation").glob("*.cpp"))),
        "module": ([*FLAGS, "-O0", *python, *include], [CSRC / "emulation/bindings/module.cpp"]),
    }
    cxx = os.environ.get("CXX", "c++")
    lines, objects = [], []
    for rule, (flags, sources) in groups.items():
        lines += [
            f"rule {rule}",
            f"  command = {cxx} {shlex.join(flags)} -MD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
        ]
        for source in sources:
            if source.name == "device.cu":  # asks the driver, and has no kernel of an operator
                continue
            target = source.relative_to(CSRC).with_suffix(f".{rule}.o")
            objects.append(target.as_posix())
            lines.append(f"build {objects[-1]}: {rule} {source}")
    link = shlex.join(own)
    lines += ["rule link", f"  command = {cxx} -shared {link} $in -o $out"]
    return "\n".join([*lines, f"build {NAME}.so: link {' '.join(objects)}", ""])


def build(sanitizer: str = "thread") -> Path:
    """Path of the module, built anew where a source has changed.

    Raises:
        RuntimeError: it cannot be built, with the compiler's output.
    """
    python = f"{sys.implementation.cache_tag}-{platform.machine()}"
    folder = CSRC.parent / "build" / "emulation" / python / sanitizer
    folder.mkdir(parents=True, exist_ok=True)
    text, path = rules(sanitizer), folder / "build.ninja"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
    done = subprocess.run(
        [find_ninja(), "-C", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the emulation does not build in {folder}:\n{done.stdout[-6000:]}")
    return folder / f"{NAME}.so"


if __name__ == "__main__":
    print(build(*sys.argv[1:]))
