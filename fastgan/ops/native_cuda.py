"""The extension's CUDA kernels on tensors of a GPU; plain functions without derivatives.

Contracts as in `fastgan.ops.native` and its like for the CPU. Outputs and scratch memory are
allocated here, on the device of the input; kernels run on PyTorch's current stream of that device,
nothing waits, and all of it can be captured in a CUDA graph. Deterministic: results depend on the
shape alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import DeviceError
from fastgan.ops import native
from fastgan.ops.native import dense, fresh_statistics, gradient, like, row

__all__ = [
    "bias_act_bwd",
    "bias_act_fwd",
    "kernels",
    "norm_act_apply",
    "norm_act_bwd",
    "norm_act_bwd_bwd",
    "norm_act_fwd",
    "norm_act_statistics",
    "obstacle",
    "run",
    "scratch",
    "slope_penalty_bwd",
    "slope_penalty_fwd",
    "slope_penalty_mix",
    "stream",
    "supports",
    "too_old",
]

_FLOATING = (torch.float32, torch.bfloat16, torch.float64)
_DTYPES = {
    "bias_act": _FLOATING,
    "conv3d": (torch.float32, torch.bfloat16),
    "norm_act": _FLOATING,
    "slope_penalty": _FLOATING,
}
OPERATORS = tuple(_DTYPES)


def supports(op: str, x: Tensor) -> str | None:
    """Why the CUDA kernels of `op` cannot take `x`, and what to install or set; None when they can.

    Args:
        op: name of an operator, such as "norm_act".
        x: the operator's main input.
    """
    reason = native.reason()
    if reason is not None:
        return reason
    if op not in OPERATORS:
        return f"{op} has no native kernel for a GPU"
    if x.device.type != "cuda":
        return f"{op} has native CUDA kernels, got {x.device}"
    return native.unfit(op, x, _DTYPES[op]) or _unusable(x.device.index or 0)


@cache
def _unusable(index: int) -> str | None:
    """Why the extension's kernels do not run on a device: None when they do."""
    versions = tuple(native.loaded().cuda_versions())
    return obstacle(native.build_info(), versions, torch.cuda.get_device_capability(index))


def obstacle(
    info: dict[str, Any], versions: tuple[int, ...], capability: tuple[int, int]
) -> str | None:
    """The reason in what was built and what is installed, or None. Starts no CUDA context.

    Args:
        info: as `native.build_info` returns it.
        versions: CUDA that the driver takes and that the extension brings, as 1000 * major + 10 *
            minor.
        capability: compute capability of the device in question.
    """
    if info["cuda"] is None:
        return (
            f"the extension was built without CUDA ({info['cuda_reason']}): "
            "install it anew with FASTGAN_CUDA=1"
        )
    driver, runtime = versions
    if (old := too_old(driver, runtime)) is not None:
        return old
    archs, wanted = info["cuda_archs"], "{}{}".format(*capability)
    if any(_runs(arch, capability) for arch in archs):
        return None
    newest = divmod(int(archs[-1].rstrip("af")), 10)
    if capability < newest:
        return (
            f"the extension has code for {';'.join(archs)}, which does not run on sm_{wanted}: "
            f'install it anew with FASTGAN_CUDA_ARCHS="{wanted}"'
        )
    if driver < runtime:
        return (
            f"the driver takes CUDA {_version(driver)} and cannot compile the PTX of "
            f"{_version(runtime)} that sm_{wanted} needs: update the driver, or install the "
            f'extension anew with FASTGAN_CUDA_ARCHS="{wanted}"'
        )
    return None


def too_old(driver: int, runtime: int) -> str | None:
    """What to do about a driver that runs nothing of the extension; None where it does.

    Both are versions as in `obstacle`.
    """
    # a driver runs machine code of any toolkit of its major version, and compiles PTX of its own
    if driver // 1000 >= runtime // 1000:
        return None
    return (
        f"the driver takes CUDA {_version(driver)} and the extension brings "
        f"{_version(runtime)}: update the driver, or build the extension with an older toolkit"
    )


def _runs(arch: str, capability: tuple[int, int]) -> bool:
    """Whether machine code runs on a device."""
    built = divmod(int(arch.rstrip("af")), 10)
    if arch.endswith("a"):  # of exactly this chip
        return capability == built
    return capability[0] == built[0] and capability >= built


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}" if number else "none"


def kernels() -> Any:
    """The extension's entries to its CUDA kernels."""
    return native.loaded().cuda


def stream(x: Tensor) -> int:
    """Handle of the current stream of a tensor's device."""
    return int(torch.cuda.current_stream(x.device).cuda_stream)


def run(name: str, *args: Any) -> None:
    """Call one of them.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        DeviceError: the launch failed, with CUDA's reason.
    """
    try:
        getattr(kernels(), name)(*args)
    except RuntimeError as error:
        raise DeviceError(str(error)) from error


def scratch(size: int, x: Tensor) -> Tensor:
    """Memory of so many bytes beside x."""
    return torch.empty(size, dtype=torch.uint8, device=x.device)


def _zeros(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.zero_()


def _norm_act_scratch(name: str, x: Tensor, num_groups: int) -> Tensor:
    return scratch(kernels().norm_act_workspace(name, x, num_groups), x)


def norm_act_fwd(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `native.norm_act_fwd`."""
    x = dense(x)
    y = torch.empty_like(x)
    mean, rstd = fresh_statistics(x, num_groups)
    name = "norm_act_fwd"
    memory = _norm_act_scratch(name, x, num_groups)
    settings = (num_groups, eps, negative_slope, stream(x), memory)
    run(name, x, row(weight), row(bias), *settings, y, mean, rstd)
    return y, mean, rstd


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """As `native.norm_act_statistics`."""
    x = dense(x)
    mean, rstd = fresh_statistics(x, num_groups)
    name = "norm_act_statistics"
    memory = _norm_act_scratch(name, x, num_groups)
    run(name, x, num_groups, eps, stream(x), memory, mean, rstd)
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
    """As `native.norm_act_apply`."""
    x = dense(x)
    y = torch.empty_like(x)
    affine = (row(weight), row(bias))
    run("norm_act_apply", x, mean, rstd, *affine, num_groups, negative_slope, stream(x), y)
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
    """As `native.norm_act_bwd`."""
    x = dense(x)
    weight, bias = row(weight), row(bias)
    d_x, d_weight, d_bias = torch.empty_like(x), gradient(weight), gradient(bias)
    if x.numel() == 0:
        return d_x, _zeros(d_weight), _zeros(d_bias)
    name = "norm_act_bwd"
    memory = _norm_act_scratch(name, x, num_groups)
    settings = (num_groups, negative_slope, stream(x), memory)
    run(name, like(g, x), x, mean, rstd, weight, bias, *settings, d_x, d_weight, d_bias)
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
    """As `native.norm_act_bwd_bwd`."""
    x = dense(x)
    weight = row(weight)
    d_g, d_x, d_weight = torch.empty_like(x), torch.empty_like(x), gradient(weight)
    if x.numel() == 0:
        return d_g, d_x, _zeros(d_weight)
    name = "norm_act_bwd_bwd"
    grads = (None if gg_x is None else like(gg_x, x), row(gg_weight), row(gg_bias))
    memory = _norm_act_scratch(name, x, num_groups)
    settings = (num_groups, negative_slope, stream(x), memory)
    saved = (like(g, x), x, mean, rstd, weight, row(bias))
    run(name, *grads, *saved, *settings, d_g, d_x, d_weight)
    return d_g, d_x, d_weight


def bias_act_fwd(x: Tensor, bias: Tensor | None, negative_slope: float) -> tuple[Tensor, Tensor]:
    """As `native_bias_act.bias_act_fwd`."""
    x = dense(x)
    y, bits = torch.empty_like(x), scratch((x.numel() + 7) // 8, x)
    run("bias_act_fwd", x, row(bias), negative_slope, stream(x), y, bits)
    return y, bits


def bias_act_bwd(g: Tensor, bits: Tensor, negative_slope: float) -> Tensor:
    """As `native_bias_act.bias_act_bwd`."""
    d_x = torch.empty_like(g)
    run("bias_act_bwd", g, bits, negative_slope, stream(g), d_x)
    return d_x


def slope_penalty_fwd(slope: Tensor, target: float, one_sided: bool) -> tuple[Tensor, Tensor]:
    """As `reference.slope_penalty.slope_penalty_fwd`, in two kernels."""
    norms, _ = fresh_statistics(slope, 1)
    value, norms = norms.new_empty(()), norms.view(-1)
    memory = scratch(kernels().slope_penalty_workspace(slope), slope)
    settings = (target, one_sided, stream(slope))
    run("slope_penalty_fwd", slope, *settings, memory, value, norms)
    return value, norms


def slope_penalty_bwd(
    g: Tensor, slope: Tensor, norms: Tensor, target: float, one_sided: bool
) -> Tensor:
    """As `reference.slope_penalty.slope_penalty_bwd`, in one kernel."""
    d_slope = torch.empty_like(slope)
    settings = (target, one_sided, stream(slope))
    run("slope_penalty_bwd", g.contiguous(), slope, norms, *settings, d_slope)
    return d_slope


def slope_penalty_mix(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """As `reference.slope_penalty.slope_penalty_mix`, in one kernel."""
    x = torch.empty_like(real)
    run("slope_penalty_mix", real, like(fake, real), share.contiguous(), stream(real), x)
    return x
