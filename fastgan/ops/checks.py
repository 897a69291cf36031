"""What the operators accept, and the memory format they answer in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgan.errors import ConfigError

__all__ = [
    "Triple",
    "accumulator",
    "check_affine",
    "check_groups",
    "dense",
    "floating",
    "memory_format",
    "require",
    "require_tensors",
    "same_place",
    "triple",
]

Triple = tuple[int, int, int]

_FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def require(condition: bool, op: str, rule: str, got: object) -> None:
    """Raise ConfigError naming operator, rule and what came unless the condition holds."""
    if not condition:
        raise ConfigError(f"{op}: {rule}, got {got}")


def require_tensors(op: str, **tensors: object) -> None:
    """Raise ConfigError for the first of the named arguments that is no tensor."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ConfigError(f"{op}: {name} must be a torch.Tensor, got {type(value).__name__}")


def triple(op: str, name: str, value: int | Sequence[int], least: int) -> Triple:
    """An int, or one int for each of D, H, W, every one at least `least`."""
    values = (value, value, value) if isinstance(value, int) else tuple(value)
    require(
        len(values) == 3 and all(isinstance(v, int) and v >= least for v in values),
        op,
        f"{name} must be an int or three ints >= {least}",
        value,
    )
    return values[0], values[1], values[2]


def floating(op: str, name: str, x: Tensor) -> None:
    """Refuse a dtype that the operators do not compute in."""
    require(
        x.dtype in _FLOATING, op, f"{name} must be float16, bfloat16, float32 or float64", x.dtype
    )


def same_place(op: str, name: str, tensor: Tensor, x: Tensor, *, master: bool = False) -> None:
    """`tensor` must share device and dtype with x; `master` also admits float32 beside half."""
    require(tensor.device == x.device, op, f"{name} must be on {x.device} like x", tensor.device)
    if tensor.dtype == x.dtype or (master and tensor.dtype == accumulator(x)):
        return
    # Autocast is about to bring both to one dtype; it leaves float64 alone.
    casts = torch.is_autocast_enabled(x.device.type) and torch.float64 not in (
        tensor.dtype,
        x.dtype,
    )
    require(casts, op, f"{name} must be {x.dtype} like x", tensor.dtype)


def accumulator(x: Tensor) -> torch.dtype:
    """Dtype of sums over x: never below float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def memory_format(x: Tensor) -> torch.memory_format:
    """Memory format of a result computed from x.

    channels_last_3d where x is or, having one channel or one voxel, may be read as it: that is the
    native layout. A strided slice keeps the order of its axes.
    """
    if x.dim() != 5:
        return torch.contiguous_format
    if x.is_contiguous(memory_format=torch.channels_last_3d) or x.stride(1) == 1:
        return torch.channels_last_3d
    return torch.contiguous_format


def dense(x: Tensor) -> Tensor:
    """Return x itself where it is contiguous in its memory format, else a copy that is."""
    return x.contiguous(memory_format=memory_format(x))


def check_groups(op: str, x: Tensor, num_groups: int, eps: float) -> None:
    """Refuse groups that do not divide the channels of x [B, C, ...], or of one element."""
    batch, channels = x.shape[:2]
    divides = num_groups >= 1 and channels % num_groups == 0
    require(divides, op, f"num_groups must divide C = {channels}", num_groups)
    require(eps > 0, op, "eps must be > 0", eps)
    require(
        x.numel() == 0 or x.numel() > batch * num_groups,
        op,
        "a group must have more than one element, or nothing of x is left",
        f"{list(x.shape)} with num_groups {num_groups}",
    )


def check_affine(op: str, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    """Refuse a weight or bias that is not [C] or [B, C] beside x [B, C, ...]."""
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None:
            require_tensors(op, **{name: parameter})
            fits = parameter.shape in (x.shape[1:2], x.shape[:2])
            require(fits, op, f"{name} must be [C] or [B, C]", list(parameter.shape))
            same_place(op, name, parameter, x, master=True)
