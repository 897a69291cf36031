"""`fastgan doctor`: what works on this machine, and why the rest does not."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["add_arguments", "driver", "known_faults", "run", "version"]

PACKAGES = ("torch", "numpy", "triton", "nvtx", "nibabel", "safetensors", "pydantic", "tyro")
GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(options: argparse.Namespace) -> int:
    """Print the findings; 0 unless fastgan cannot compute here at all."""
    import fastgan

    print(f"fastgan {fastgan.__version__}, Python {platform.python_version()}")
    for package in PACKAGES:
        print(f"  {package:<12} {version(package)}")
    try:
        import torch
    except Exception as error:
        print(f"unusable: torch cannot be imported: {error}")
        return 1
    _print_part("devices", _devices())
    _print_part("extension", _extension())
    _print_part("operators", _operators())
    if torch.cuda.is_available():
        _print_part("trials of GPU kernels", _trials())
    _print_part("machine", _machine())
    faults = known_faults(torch.__version__, torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    _print_part("warnings", faults or ["none"])
    problem = _trial()
    if problem:
        print(f"unusable: {problem}")
        return 1
    print("a forward and a double backward pass work")
    return 0


def known_faults(torch_version: str, cudnn_version: int | None) -> list[str]:
    """Warnings about versions that are known to compute wrongly or slowly.

    Args:
        torch_version: such as "2.11.0+cpu".
        cudnn_version: such as 91002 for 9.10.2, or None where there is none.
    """
    found = []
    if re.match(r"2\.9\.", torch_version):
        found.append(f"torch {torch_version}: 3D convolutions of 2.9 are slow; use another version")
    # The number is 10000 major + 100 minor + patch.
    if cudnn_version is not None and 90800 <= cudnn_version < 91500:
        major, minor = cudnn_version // 10000, cudnn_version // 100 % 100
        found.append(
            f"cuDNN {major}.{minor}: 3D convolutions of 9.8 to 9.14 can be wrong or slow; "
            "use 9.15 or later"
        )
    return found


def _print_part(title: str, lines: list[str] | Iterator[str]) -> None:
    print(title)
    for line in lines:
        print(f"  {line}")


def version(package: str) -> str:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> Iterator[str]:
    import torch

    yield f"driver: {driver()}; torch was built for CUDA {torch.version.cuda or 'none'}"
    if not torch.cuda.is_available():
        yield "no CUDA device that this torch can use: training runs on the CPU"
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        capability = f"{properties.major}.{properties.minor}"
        memory = properties.total_memory / GIB
        yield f"cuda:{i}: {properties.name}, compute capability {capability}, {memory:.0f} GiB"


def driver() -> str:
    """Version of the GPU driver, or that there is none."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "none found"
    return answer.stdout.split("\n")[0].strip() or "none found"


def _extension() -> Iterator[str]:
    from fastgan.ops.implementations import extension

    try:
        built = extension.build_info()
    except RuntimeError as error:
        yield f"not usable, PyTorch serves instead: {error}"
        return
    for key, value in built.items():
        if isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        yield f"{key}: {value or 'none'}"
    if built.get("cuda"):
        yield from _extension_devices(extension.cuda_devices())


def _extension_devices(seen: Mapping[str, Any]) -> Iterator[str]:
    from fastgan.ops.implementations.cuda.device import too_old

    if seen["error"]:
        old = too_old(seen["driver"], seen["runtime"]) if seen["driver"] else None
        yield f"its CUDA runtime reports: {old or seen['error']}"
    for device in seen["devices"]:
        problem = device["code_error"]
        yield f"{device['name']}: {problem or 'the extension has code for it'}"


def _operators() -> Iterator[str]:
    from fastgan.ops.implementations import dispatch

    for row in dispatch.report():
        mark = "used" if row.used else "yes" if row.available else "no"
        yield f"{row.op:<17} {row.device:<5} {row.implementation:<18} {mark:<5} {row.reason}"


def _trials() -> Iterator[str]:
    """What the kernels' trials at first use have found on each GPU; nothing is tried."""
    import torch

    from fastgan.ops.implementations import certificates, dispatch, first_use

    kernels = [(op, name) for op, name, place in dispatch.TABLE if place == "cuda"]
    sources = {kernel: certificates.digest(kernel[1]) for kernel in kernels}
    for i in range(torch.cuda.device_count()):
        for line in first_use.told(torch.device("cuda", i), sources):
            yield f"cuda:{i} {line}"


def _machine() -> Iterator[str]:
    import torch

    yield f"threads: {torch.get_num_threads()} of {os.cpu_count()} processors"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield f"memory: {pages / GIB:.1f} GiB"
    yield f"disk free in this folder: {shutil.disk_usage(Path.cwd()).free / GIB:.1f} GiB"


def _trial() -> str | None:
    """Why a gradient penalty cannot be computed on the device training would choose."""
    import torch

    from fastgan import ops

    try:
        device = torch.device("cuda" if torch.cuda.device_count() else "cpu")
        weight = torch.ones(2, 1, 3, 3, 3, device=device, requires_grad=True)
        x = torch.ones(2, 1, 4, 4, 4, device=device)
        penalty = ops.gradient_penalty(
            lambda v: ops.conv3d(v, weight, padding=1).square().flatten(1).sum(1), x, -x
        )
        torch.autograd.backward(penalty.value)
        if weight.grad is None or not bool(torch.isfinite(weight.grad).all()):
            return f"the gradient penalty has no finite gradient on {device}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
