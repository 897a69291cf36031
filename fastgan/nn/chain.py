"""Convolutions and norms in a row, run so that the volumes between them are kept once.

Between a norm + activation and the convolution behind it only the norm's raw input is kept for the
backward: `ops.norm_act_conv`. Every module keeps its parameters, its name and its own forward; a
module that somebody watches through a hook, or gave another forward, is called by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from fastgan import ops
from fastgan.nn.conv import Conv3d, ConvTranspose3d
from fastgan.nn.norm_act import NormAct3d

__all__ = ["ConvChain", "Link", "run_chain"]


class Link(nn.Module):
    """A module that is several in a row: a chain looks inside."""

    def links(self) -> tuple[nn.Module, ...]:
        """The modules, in the order in which they run."""
        raise NotImplementedError


class ConvChain(nn.Sequential):
    """A Sequential run by `run_chain`."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, D, H, W] -> what the last module returns."""
        return run_chain(self, x)


def run_chain(modules: Iterable[nn.Module], x: Tensor, labels: Tensor | None = None) -> Tensor:
    """The modules after one another, norm + activation + convolution as one operator.

    Args:
        modules: NormAct3d, Conv3d, ConvTranspose3d, links of these, and any others, which are
            called with x, and with labels where given.
        x: [B, C, D, H, W].
        labels: [B] int64 for norms and others; None: none.

    Derivatives: two orders where a norm is in the chain, else every order.
    """
    links = list(_flat(modules))
    waiting: NormAct3d | None = None  # a norm that x has yet to go through
    statistics: Tensor | None = None  # of x, where known
    for index, link in enumerate(links):
        following = links[index + 1] if index + 1 < len(links) else None
        if waiting is not None and _convolves(link):
            groups, eps = 0, waiting.eps
            if isinstance(following, NormAct3d) and _waits(following):
                groups, eps = following.num_groups, following.eps
            x, statistics = _convolved(waiting, x, statistics, link, labels, groups, eps)
            waiting, statistics = None, statistics if groups else None
            continue
        if waiting is not None:
            x, waiting, statistics = waiting.finish(x, labels, statistics), None, None
        if isinstance(link, NormAct3d) and _waits(link):
            waiting = link
        elif isinstance(link, nn.Conv3d | nn.ConvTranspose3d) or labels is None:
            x, statistics = link(x), None
        else:
            x, statistics = link(x, labels), None
    return x if waiting is None else waiting.finish(x, labels, statistics)


def _watched(module: nn.Module) -> bool:
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return bool(hooks) or "forward" in module.__dict__


def _flat(modules: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for module in modules:
        if isinstance(module, Link) and not _watched(module):
            yield from _flat(module.links())
        else:
            yield module


def _waits(norm: NormAct3d) -> bool:
    return norm.norm != "none" and not _watched(norm)


def _convolves(module: nn.Module) -> bool:
    if not isinstance(module, Conv3d | ConvTranspose3d) or _watched(module):
        return False
    return module.groups == 1 and all(d == 1 for d in module.dilation)


def _convolved(
    norm: NormAct3d,
    z: Tensor,
    statistics: Tensor | None,
    conv: nn.Module,
    labels: Tensor | None,
    next_groups: int,
    next_eps: float,
) -> tuple[Tensor, Tensor]:
    if statistics is None:
        statistics = ops.group_statistics(z, num_groups=norm.num_groups, eps=norm.eps)
    weight, bias = norm.affine_of(labels)
    settings: dict[str, Any] = {
        "num_groups": norm.num_groups,
        "eps": next_eps,
        "negative_slope": norm.negative_slope,
        "next_groups": next_groups,
    }
    if isinstance(conv, ConvTranspose3d):
        geometry: dict[str, Any] = {
            "stride": conv.stride,
            "padding": conv.padding_voxels,
            "output_padding": conv.output_padding,
        }
        return ops.norm_act_conv_transpose(
            z, statistics, weight, bias, conv.weight, conv.bias, **settings, **geometry
        )
    assert isinstance(conv, Conv3d)
    return ops.norm_act_conv(
        *(z, statistics, weight, bias, conv.weight, conv.bias),
        **settings,
        stride=conv.stride,
        padding=conv.padding_voxels,
    )
