"""The three passes of norm_act by the extension and by autograd, and inputs for them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.implementations.cpu import norm_act as native

EPS, SLOPE = 1e-3, 0.2


class Case(NamedTuple):
    """[B, C, *spatial], groups, and the shape of the affine parameters."""

    shape: tuple[int, ...]
    num_groups: int
    affine: str

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + f"-G{self.num_groups}-{self.affine}"


class Inputs(NamedTuple):
    """Arguments of all three passes; gradients are random, never ones."""

    x: Tensor
    g: Tensor
    gg_x: Tensor
    weight: Tensor | None
    bias: Tensor | None
    gg_weight: Tensor | None
    gg_bias: Tensor | None
    num_groups: int


def in_layout(x: Tensor, layout: str) -> Tensor:
    if layout == "channels_first":
        return x.contiguous()
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def over_channels(affine: Tensor, x: Tensor) -> Tensor:
    rows = 1 if affine.ndim == 1 else affine.shape[0]
    return affine.reshape(rows, x.shape[1], *(1,) * (x.ndim - 2))


def pre_activation(x: Tensor, weight: Tensor | None, bias: Tensor | None, G: int) -> Tensor:
    z = F.group_norm(x, G, eps=EPS) if x[0].numel() > G else torch.zeros_like(x)
    z = z if weight is None else z * over_channels(weight, x)
    return z if bias is None else z + over_channels(bias, x)


def make_inputs(case: Case, dtype: torch.dtype, layout: str, seed: int = 0) -> Inputs:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)

    B, C = case.shape[:2]
    size = {"none": None, "channel": (C,), "sample": (B, C)}[case.affine]
    weight, bias, gg_weight, gg_bias = (None if size is None else draw(*size) for _ in range(4))
    x = draw(*case.shape) + 0.5
    # at the kink one rounding decides the slope: keep away from it
    for _ in range(50):
        near = (
            pre_activation(
                x.double(),
                *(None if t is None else t.double() for t in (weight, bias)),
                case.num_groups,
            ).abs()
            < 1e-4
        )
        if not near.any() or x[0].numel() <= case.num_groups:
            break
        x = torch.where(near, draw(*case.shape), x)
    g, gg_x = draw(*case.shape), draw(*case.shape)
    x, g, gg_x = (in_layout(t, layout) for t in (x, g, gg_x))
    return Inputs(x, g, gg_x, weight, bias, gg_weight, gg_bias, case.num_groups)


def native_passes(i: Inputs) -> list[Tensor]:
    """y, d_x, d_weight, d_bias, and d_g, d_x, d_weight of the second derivative."""
    y, mean, rstd = native.norm_act_fwd(i.x, i.weight, i.bias, i.num_groups, EPS, SLOPE)
    saved = (i.g, i.x, mean, rstd, i.weight, i.bias, i.num_groups, SLOPE)
    first = native.norm_act_bwd(*saved)
    second = native.norm_act_bwd_bwd(i.gg_x, i.gg_weight, i.gg_bias, *saved)
    return [t for t in (y, *first, *second) if t is not None]


def autograd_passes(i: Inputs, dtype: torch.dtype) -> list[Tensor]:
    """The same by automatic differentiation of PyTorch's operators in `dtype`."""

    def leaf(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.detach().to(dtype).requires_grad_()

    x, g, weight, bias = leaf(i.x), leaf(i.g), leaf(i.weight), leaf(i.bias)
    assert x is not None and g is not None
    y = F.leaky_relu(pre_activation(x, weight, bias, i.num_groups), SLOPE)
    inputs = [t for t in (x, weight, bias) if t is not None]
    first = torch.autograd.grad(y, inputs, g, create_graph=True)
    cotangents = [t.to(dtype) for t in (i.gg_x, i.gg_weight, i.gg_bias) if t is not None]
    wanted = [g, *inputs[:2]]
    second = torch.autograd.grad(first, wanted, cotangents)
    return [t.detach() for t in (y, *first, *second)]


def relative_error(got: Tensor, wanted: Tensor) -> float:
    assert not got.isnan().any()
    scale = max(wanted.abs().max().item(), 1e-30)
    return (got.double() - wanted.double()).abs().max().item() / scale
