"""The compiled extension: whether it is there, how it was built, and what its kernels can read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "FLOATING",
    "build_info",
    "cuda_devices",
    "empty_gradient",
    "empty_stacked",
    "empty_statistics",
    "loaded",
    "named",
    "reason",
    "unfit",
]

FLOATING = (torch.float32, torch.bfloat16, torch.float64)

_C: Any = None
_import_error: str | None = None
try:
    # torch first: its OpenMP runtime must be the one that the extension finds
    import fastgan._C as _C  # type: ignore[no-redef]
except ImportError as error:
    _import_error = f"fastgan._C cannot be imported: {error}"


def reason() -> str | None:
    """Why the extension cannot be used: None when it is loaded, else the error of its import."""
    return _import_error


def loaded() -> Any:
    """The extension, or RuntimeError with the reason."""
    if _C is None:
        raise RuntimeError(_import_error)
    return _C


def build_info() -> dict[str, Any]:
    """What the extension was built from.

    Returns:
        version, compiler, flags: str; isa: list of instruction set levels; openmp: bool;
        cuda: version of the CUDA compiler or None; cuda_archs: list of str; cuda_reason: why there
        is no CUDA, or None; cuda_sources: digest of the CUDA kernels' sources, or None.

    Raises:
        RuntimeError: if the extension is not loaded.
    """
    return dict(loaded().build_info)


def cuda_devices() -> dict[str, Any]:
    """CUDA devices as the extension's own runtime sees them; starts a CUDA context on each.

    Returns:
        error: str or None; driver, runtime: CUDA versions as 1000 * major + 10 * minor, 0 if none;
        devices: list of dicts with name, capability (major, minor), memory (bytes),
        multiprocessors, binary_version and ptx_version of the code that runs there, and
        code_error: why the extension's code does not run on the device, or None.

    Raises:
        RuntimeError: if the extension is not loaded.
    """
    return dict(loaded().cuda_devices())


def unfit(op: str, place: str, dtypes: tuple[torch.dtype, ...], x: Tensor) -> str | None:
    """Why kernels for a place, "cpu" or "cuda", and these dtypes cannot read `x`: None if they can.

    Args:
        op: name of an operator, such as "norm_act".
        place: type of device.
        dtypes: of what the kernels read.
        x: the operator's main input.
    """
    if _import_error is not None:
        return _import_error
    if x.device.type != place:
        where = "the CPU" if place == "cpu" else "GPUs"
        return f"{op} has native kernels for {where}, got {x.device}"
    if x.dtype not in dtypes:
        return f"{op} has native kernels for {named(dtypes)}, got {named((x.dtype,))}"
    if x.layout != torch.strided:
        return f"{op} has native kernels for strided tensors, got {x.layout}"
    if not 2 <= x.ndim <= 8:
        return f"{op} has native kernels for 2 to 8 dimensions, got {x.ndim}"
    return None


def named(dtypes: tuple[torch.dtype, ...]) -> str:
    """Dtypes as a person lists them, such as "float32, bfloat16 and float64"."""
    *most, last = (str(dtype).removeprefix("torch.") for dtype in dtypes)
    return f"{', '.join(most)} and {last}" if most else last


def empty_gradient(parameter: Tensor | None) -> Tensor | None:
    """Where the gradient of a parameter goes."""
    if parameter is None:
        return None
    return torch.empty_like(parameter, memory_format=torch.contiguous_format)


def empty_statistics(x: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Where mean and rstd, [B, G], go; NaN where x is empty."""
    # Not two halves of one tensor: an operator's outputs must not share memory.
    mean, rstd = (_empty_numbers(x, (x.shape[0], num_groups)) for _ in range(2))
    return mean, rstd


def empty_stacked(x: Tensor, num_groups: int) -> Tensor:
    """Where mean and rstd go as one tensor [2, B, G], all means first; NaN where x is empty."""
    return _empty_numbers(x, (2, x.shape[0], num_groups))


def _empty_numbers(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    numbers = torch.empty(shape, dtype=dtype, device=x.device)
    return numbers.fill_(torch.nan) if x.numel() == 0 else numbers
