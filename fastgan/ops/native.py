"""The compiled extension: whether it is there, and its kernels on tensors.

Every kernel is a plain function without derivatives; `fastgan.ops.norm_act` and its like build the
differentiable operators on top. Outputs are allocated here, in the layout of the input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "build_info",
    "cuda_devices",
    "dense",
    "fresh_statistics",
    "gradient",
    "like",
    "loaded",
    "norm_act_apply",
    "norm_act_bwd",
    "norm_act_bwd_bwd",
    "norm_act_fwd",
    "norm_act_statistics",
    "reason",
    "row",
    "supports",
    "unfit",
]

_C: Any = None
_import_error: str | None = None
try:
    # torch first: its OpenMP runtime must be the one that the extension finds
    import fastgan._C as _C  # type: ignore[no-redef]
except ImportError as error:
    _import_error = f"fastgan._C cannot be imported: {error}"

_FLOATING = (torch.float32, torch.bfloat16, torch.float64)
_ALL = (*_FLOATING, torch.float16, torch.int64, torch.int16, torch.int8, torch.uint8)
_DTYPES = {
    "norm_act": _FLOATING,
    "bias_act": _FLOATING,
    "conv3d": (torch.float32, torch.bfloat16),
    "fold": _ALL,
    "smooth": _FLOATING,
    "nearest": (*_FLOATING, torch.float16, torch.int16, torch.int8, torch.uint8),
}


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


def supports(op: str, x: Tensor) -> str | None:
    """Why the native kernels of `op` cannot take `x`: None when they can.

    Args:
        op: name of an operator, such as "norm_act".
        x: the operator's main input.
    """
    if _import_error is not None:
        return _import_error
    if x.device.type == "cuda":
        from fastgan.ops import native_cuda

        return native_cuda.supports(op, x)
    if op not in _DTYPES:
        return f"{op} has no native kernel"
    if x.device.type != "cpu":
        return f"{op} has native kernels for the CPU, got {x.device}"
    return unfit(op, x, _DTYPES[op])


def unfit(op: str, x: Tensor, dtypes: tuple[torch.dtype, ...]) -> str | None:
    """Why kernels of these dtypes cannot read `x`: None when they can."""
    if x.dtype not in dtypes:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        return f"{op} has native kernels for {names}, got {str(x.dtype).removeprefix('torch.')}"
    if x.layout != torch.strided:
        return f"{op} has native kernels for strided tensors, got {x.layout}"
    if not 2 <= x.ndim <= 8:
        return f"{op} has native kernels for 2 to 8 dimensions, got {x.ndim}"
    return None


def _channels_last(x: Tensor) -> Tensor:
    """`x` with dimension 1 last in memory."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def dense(x: Tensor) -> Tensor:
    """`x` itself if it is contiguous with its channels first or last, else a channels-last copy."""
    if x.is_contiguous() or x.movedim(1, -1).is_contiguous():
        return x
    return _channels_last(x)


def like(tensor: Tensor, x: Tensor) -> Tensor:
    """`tensor` in the layout of `x`, which is dense; a copy only where the strides differ."""
    if tensor.stride() == x.stride() or tensor.shape != x.shape:
        return tensor
    return torch.empty_like(x, dtype=tensor.dtype).copy_(tensor)


def row(affine: Tensor | None) -> Tensor | None:
    """A parameter as the kernels read it."""
    return None if affine is None else affine.contiguous()


def gradient(affine: Tensor | None) -> Tensor | None:
    """Where the gradient of a parameter goes."""
    if affine is None:
        return None
    return torch.empty_like(affine, memory_format=torch.contiguous_format)


def fresh_statistics(x: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Where mean and rstd, [B, G], go; NaN where x is empty."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # Not two halves of one tensor: an operator's outputs must not share memory.
    shape = (x.shape[0], num_groups)
    mean, rstd = (torch.empty(shape, dtype=dtype, device=x.device) for _ in range(2))
    if x.numel() == 0:
        mean.fill_(torch.nan)
        rstd.fill_(torch.nan)
    return mean, rstd


def norm_act_fwd(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Group normalisation, affine map and LeakyReLU.

    Args:
        x: [B, C, ...] float32, bfloat16 or float64 on the CPU.
        weight: [C] or [B, C] of any of these dtypes; None is 1.
        bias: [C] or [B, C] likewise; None is 0.
        num_groups: G, a divisor of C.
        eps: added to the variance, at least 0.
        negative_slope: slope below zero, at least 0; 1 is no activation.

    Returns:
        y: like x, in its layout (channels last if x is dense in neither layout).
        mean, rstd: [B, G] float32 (float64 for float64); NaN where a group has no element.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes, for any number of threads.
    Cost: two reads and one write of x.
    """
    x = dense(x)
    y = torch.empty_like(x)
    mean, rstd = fresh_statistics(x, num_groups)
    threads = torch.get_num_threads()
    loaded().norm_act_fwd(
        x, row(weight), row(bias), num_groups, eps, negative_slope, threads, y, mean, rstd
    )
    return y, mean, rstd


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and (variance + eps)^-1/2 of every group, as `norm_act_fwd` returns them.

    Args:
        x: [B, C, ...] float32, bfloat16 or float64 on the CPU.
        num_groups: G, a divisor of C.
        eps: added to the variance, at least 0.

    Returns:
        mean, rstd: [B, G] float32 (float64 for float64); NaN where a group has no element.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes, for any number of threads.
    Cost: one read of x.
    """
    x = dense(x)
    mean, rstd = fresh_statistics(x, num_groups)
    loaded().norm_act_statistics(x, num_groups, eps, torch.get_num_threads(), mean, rstd)
    return mean, rstd


def norm_act_apply(
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
) -> Tensor:
    """The y of `norm_act_fwd`, from statistics already known.

    Args:
        x: as in the forward.
        mean: [B, G], as returned by the forward.
        rstd: [B, G], likewise.
        weight: as in the forward.
        bias: as in the forward.
        num_groups: as in the forward.
        negative_slope: as in the forward.

    Returns:
        Like x, in its layout (channels last if x is dense in neither layout).

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes, for any number of threads.
    Cost: one read and one write of x.
    """
    x = dense(x)
    y = torch.empty_like(x)
    threads = torch.get_num_threads()
    loaded().norm_act_apply(
        x, mean, rstd, row(weight), row(bias), num_groups, negative_slope, threads, y
    )
    return y


def norm_act_bwd(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """First derivative of `norm_act_fwd`.

    Args:
        g: gradient of y, like x.
        x: input of the forward.
        mean: [B, G], as returned by the forward.
        rstd: [B, G], likewise.
        weight: as in the forward.
        bias: as in the forward.
        num_groups: as in the forward.
        negative_slope: as in the forward.

    Returns:
        d_x: like x. d_weight, d_bias: like weight and bias; None for one that is None.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes, for any number of threads.
    Cost: two reads of g and x, one write of x.
    """
    x = dense(x)
    g = like(g, x)
    weight, bias = row(weight), row(bias)
    d_x, d_weight, d_bias = torch.empty_like(x), gradient(weight), gradient(bias)
    threads = torch.get_num_threads()
    loaded().norm_act_bwd(
        *(g, x, mean, rstd, weight, bias, num_groups, negative_slope, threads),
        *(d_x, d_weight, d_bias),
    )
    return d_x, d_weight, d_bias


def norm_act_bwd_bwd(
    gg_x: Tensor | None,
    gg_weight: Tensor | None,
    gg_bias: Tensor | None,
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Derivative of `norm_act_bwd`; the one with respect to bias is zero.

    Args:
        gg_x: gradient of d_x, like x; None is zero.
        gg_weight: gradient of d_weight, like weight; None is zero.
        gg_bias: gradient of d_bias, like bias; None is zero.
        g: as in the backward.
        x: as in the backward.
        mean: as in the backward.
        rstd: as in the backward.
        weight: as in the backward.
        bias: as in the backward.
        num_groups: as in the backward.
        negative_slope: as in the backward.

    Returns:
        d_g, d_x: like x. d_weight: like weight; None if weight is None.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes, for any number of threads.
    Cost: two reads of gg_x, g and x, two writes of x.
    """
    x = dense(x)
    g = like(g, x)
    gg_x = None if gg_x is None else like(gg_x, x)
    weight = row(weight)
    d_g, d_x, d_weight = torch.empty_like(x), torch.empty_like(x), gradient(weight)
    threads = torch.get_num_threads()
    loaded().norm_act_bwd_bwd(
        *(gg_x, row(gg_weight), row(gg_bias), g, x, mean, rstd, weight, row(bias)),
        *(num_groups, negative_slope, threads, d_g, d_x, d_weight),
    )
    return d_g, d_x, d_weight
