"""The compiled kernels of `norm_act` on tensors; plain functions without derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.extension import empty_gradient, empty_statistics, loaded

__all__ = [
    "DTYPES",
    "SERVES",
    "norm_act_apply",
    "norm_act_bwd",
    "norm_act_bwd_bwd",
    "norm_act_fwd",
    "norm_act_statistics",
    "supports",
]

DTYPES = extension.FLOATING
SERVES = extension.named(DTYPES)


def supports(x: Tensor) -> str | None:
    """Why the kernels cannot take `x`: None when they can."""
    return extension.unfit("norm_act", x, "cpu", DTYPES)


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
        x: [B, C, ...] contiguous with its channels first or last, of `DTYPES`, on the CPU.
        weight: [C] or [B, C] contiguous, of any of these dtypes; None is 1.
        bias: [C] or [B, C] likewise; None is 0.
        num_groups: G, a divisor of C.
        eps: added to the variance, at least 0.
        negative_slope: slope below zero, at least 0; 1 is no activation.

    Returns:
        y: like x, in its layout.
        mean, rstd: [B, G] float32 (float64 for float64); NaN where a group has no element.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes, for any number of threads.
    Cost: two reads and one write of x.
    """
    y = torch.empty_like(x)
    mean, rstd = empty_statistics(x, num_groups)
    threads = torch.get_num_threads()
    loaded().norm_act_fwd(x, weight, bias, num_groups, eps, negative_slope, threads, y, mean, rstd)
    return y, mean, rstd


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and (variance + eps)^-1/2 of every group, as `norm_act_fwd` returns them.

    Args:
        x: [B, C, ...] contiguous with its channels first or last, of `DTYPES`, on the CPU.
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
    mean, rstd = empty_statistics(x, num_groups)
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
        Like x, in its layout.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes, for any number of threads.
    Cost: one read and one write of x.
    """
    y = torch.empty_like(x)
    threads = torch.get_num_threads()
    loaded().norm_act_apply(x, mean, rstd, weight, bias, num_groups, negative_slope, threads, y)
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
    d_x, d_weight, d_bias = torch.empty_like(x), empty_gradient(weight), empty_gradient(bias)
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
    d_g, d_x, d_weight = torch.empty_like(x), torch.empty_like(x), empty_gradient(weight)
    threads = torch.get_num_threads()
    loaded().norm_act_bwd_bwd(
        *(gg_x, gg_weight, gg_bias, g, x, mean, rstd, weight, bias),
        *(num_groups, negative_slope, threads, d_g, d_x, d_weight),
    )
    return d_g, d_x, d_weight
