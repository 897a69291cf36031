"""Parameters in the dtype that products are computed in, cast once for a whole phase.

Each use keeps a derivative of its own: gradients are added up in the parameter's dtype, as if every
use had cast it, and come out bit for bit the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["cast", "cast_once"]

# By the identity of a parameter, which is kept beside its copy and so stays what it is.
_held: dict[int, tuple[Tensor, Tensor]] = {}


@contextmanager
def cast_once(parameters: Sequence[Tensor], dtype: torch.dtype) -> Iterator[None]:
    """Inside, the operators of `fastgan.ops` find these parameters in `dtype` already.

    Args:
        parameters: leaves that do not change inside the block.
        dtype: what autocast is set to.

    Cost: one launch for all on a GPU, where each use takes one otherwise; a copy of each.
    """
    copies = [torch.empty_like(parameter, dtype=dtype) for parameter in parameters]
    if copies:
        torch._foreach_copy_(copies, [parameter.detach() for parameter in parameters])
    pairs = zip(parameters, copies, strict=True)
    _held.update({id(parameter): (parameter, copy) for parameter, copy in pairs})
    try:
        yield
    finally:
        for parameter in parameters:
            _held.pop(id(parameter), None)


def cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value.to(dtype)`, without casting again what `cast_once` holds."""
    parameter, copy = _held.get(id(value), (None, None))
    if parameter is not value or copy is None or copy.dtype != dtype:
        return value.to(dtype)
    if torch.is_grad_enabled() and value.requires_grad:
        lent: Tensor = _Lent.apply(value, copy)  # type: ignore[no-untyped-call]
        return lent
    return copy


class _Lent(torch.autograd.Function):
    """The copy, with the derivative of the cast it is of.

    Derivatives: every order; the backward is a torch operation.
    """

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, copy: Tensor) -> Tensor:
        ctx.dtype = parameter.dtype
        ctx.set_materialize_grads(False)
        return copy.view_as(copy)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, None]:
        return None if g is None else g.to(ctx.dtype), None
