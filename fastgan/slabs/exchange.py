"""What the holders of slabs tell each other, differentiable to any order.

Plain `autograd.Function`s whose derivatives are one another: eager mode alone, for torch.compile
does not see the messages.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["Slabs", "averaged", "gathered", "halo", "summed"]


class Slabs:
    """The equal parts of every volume along its first axis. This one is the whole volume.

    Args:
        index: which part this process holds, from 0.
        count: of parts.

    The three messages below are those of one process; `fastgan.train.ranks` has others. None is
    differentiable: networks use the functions of this module.
    """

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count

    def shift(self, up: Tensor, down: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Give `up` to the part above and `down` to the part below, of one shape.

        Returns:
            What came from below and from above; None beyond the volume.
        """
        return None, None

    def add(self, own: Tensor) -> Tensor:
        """The sum of everybody's, in place; the same bits for all."""
        return own

    def collect(self, own: Tensor) -> list[Tensor]:
        """Everybody's, in the order of parts."""
        return [own]

    def own(self, whole: Tensor, axis: int, times: int = 1) -> Tensor:
        """This part of a tensor whose axis is that of the volume, or `times` of it in a row."""
        if self.count == 1:
            return whole
        parts = torch.unflatten(whole, axis, (times, self.count, -1))
        return parts.select(axis + 1, self.index).flatten(axis, axis + 1)


def halo(x: Tensor, slabs: Slabs, *, edge: bool = False) -> Tensor:
    """The slab with the nearest plane of either neighbour.

    Args:
        x: [B, C, d, H, W].
        slabs: the parts.
        edge: beyond the volume its outermost plane goes on; else there are zeros.

    Returns:
        [B, C, d + 2, H, W], channels_last_3d.

    Derivatives: every order; the adjoint brings the outer planes home and adds them there.
    Cost: one read and one write of x, two planes sent and two received.
    """
    y: Tensor = _Halo.apply(x, slabs, edge)  # type: ignore[no-untyped-call]
    return y


def summed(x: Tensor, slabs: Slabs) -> Tensor:
    """The sum over the parts of what each has, any shape. Derivatives: every order, itself."""
    if slabs.count == 1:
        return x
    y: Tensor = _Summed.apply(x, slabs)  # type: ignore[no-untyped-call]
    return y


def averaged(x: Tensor, slabs: Slabs) -> Tensor:
    """The mean over the parts of what each has, any shape. Derivatives: every order, itself."""
    return x if slabs.count == 1 else summed(x, slabs) / slabs.count


def gathered(x: Tensor, slabs: Slabs, axis: int) -> Tensor:
    """All parts in a row along `axis`. Derivatives: every order; the adjoint sums this part's."""
    if slabs.count == 1:
        return x
    y: Tensor = _Gathered.apply(x, slabs, axis)  # type: ignore[no-untyped-call]
    return y


def _planes(x: Tensor) -> Tensor:
    """The NDHWC view, dense."""
    return x.permute(0, 2, 3, 4, 1).contiguous()


class _Halo(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slabs: Slabs, edge: bool) -> Tensor:
        ctx.slabs, ctx.edge = slabs, edge
        y = _planes(x)
        first, last = y[:, :1], y[:, -1:]
        below, above = slabs.shift(last, first)
        if below is None:
            below = first if edge else torch.zeros_like(first)
        if above is None:
            above = last if edge else torch.zeros_like(last)
        return torch.cat([below, y, above], 1).permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return _Folded.apply(g, ctx.slabs, ctx.edge), None, None  # type: ignore[no-untyped-call]


class _Folded(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, slabs: Slabs, edge: bool) -> Tensor:
        ctx.slabs, ctx.edge = slabs, edge
        y = _planes(g)
        first, last = y[:, :1], y[:, -1:]
        below, above = slabs.shift(last, first)
        if edge:
            below = first if below is None else below
            above = last if above is None else above
        x = y[:, 1:-1].clone()
        if below is not None:
            x[:, :1] += below
        if above is not None:
            x[:, -1:] += above
        return x.permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor, None, None]:
        return _Halo.apply(x, ctx.slabs, ctx.edge), None, None  # type: ignore[no-untyped-call]


class _Summed(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slabs: Slabs) -> Tensor:
        ctx.slabs = slabs
        return slabs.add(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _Summed.apply(g, ctx.slabs), None  # type: ignore[no-untyped-call]


class _Gathered(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slabs: Slabs, axis: int) -> Tensor:
        ctx.slabs, ctx.axis = slabs, axis
        return torch.cat(slabs.collect(x.contiguous()), axis)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return _Kept.apply(g, ctx.slabs, ctx.axis), None, None  # type: ignore[no-untyped-call]


class _Kept(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, slabs: Slabs, axis: int) -> Tensor:
        ctx.slabs, ctx.axis = slabs, axis
        whole = slabs.add(g.clone(memory_format=torch.contiguous_format))
        return slabs.own(whole, axis).clone()

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor, None, None]:
        return _Gathered.apply(x, ctx.slabs, ctx.axis), None, None  # type: ignore[no-untyped-call]
