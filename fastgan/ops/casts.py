"""The parameters of a phase, lent to each of their uses in the dtype that products are computed in.

They are cast once for the whole phase. Each use has a gradient of its own; `Loans.collect` adds
them up in the parameter's dtype, all parameters at once: what each use's own cast would have given,
in a few launches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["Loans", "cast", "lent"]


class Loans:
    """What was lent in a block of `lent`."""

    def __init__(self) -> None:
        self._uses: list[tuple[Tensor, Tensor]] = []

    def of(self, parameter: Tensor, copy: Tensor) -> Tensor:
        """The copy, as a leaf of its own."""
        use = copy.detach().requires_grad_()
        self._uses.append((parameter, use))
        return use

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of all uses to those of their parameters; once, after the backward.

        Cost: a launch for all casts, and one for each use of the parameter that has most.
        """
        # The last use first, as PyTorch itself adds them up.
        found = [(p, use.grad) for p, use in reversed(self._uses) if use.grad is not None]
        self._uses.clear()
        totals = _in_dtype_of(found)
        while totals:
            later = []
            seen: dict[int, tuple[Tensor, Tensor]] = {}
            for parameter, gradient in totals:
                if parameter.grad is None:
                    parameter.grad = gradient
                elif id(parameter) in seen:
                    later.append((parameter, gradient))
                else:
                    seen[id(parameter)] = (parameter.grad, gradient)
            if seen:
                sums, summands = zip(*seen.values(), strict=True)
                torch._foreach_add_(list(sums), list(summands))
            totals = later


def _in_dtype_of(found: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Parameters with their gradients, cast together where the dtypes differ."""
    narrow = [(p, g) for p, g in found if g.dtype != p.dtype]
    wide = [torch.empty_like(g, dtype=p.dtype) for p, g in narrow]
    if wide:
        torch._foreach_copy_(wide, [g for _, g in narrow])
    cast_ones = iter(wide)
    return [(p, g if g.dtype == p.dtype else next(cast_ones)) for p, g in found]


# By the identity of a parameter, which is kept beside its copy and so stays what it is.
_held: dict[int, tuple[Tensor, Tensor, Loans]] = {}


@contextmanager
def lent(parameters: Sequence[Tensor], dtype: torch.dtype | None = None) -> Iterator[Loans]:
    """Inside, the operators of `fastgan.ops` find these parameters in `dtype` already.

    Args:
        parameters: leaves that do not change inside the block. One with a hook is left out: the
            hook would see nothing.
        dtype: what autocast is set to; None: each parameter's own.

    Yields:
        To be collected when the gradients are there: the parameters themselves have none before.

    Cost: one launch for all on a GPU, where each use takes one otherwise; a copy of each that has
        another dtype.
    """
    parameters = [p for p in parameters if not _hooked(p)]
    copies = [parameter.detach() for parameter in parameters]
    if dtype is not None and copies:
        narrow = [torch.empty_like(copy, dtype=dtype) for copy in copies]
        torch._foreach_copy_(narrow, copies)
        copies = narrow
    loans = Loans()
    pairs = zip(parameters, copies, strict=True)
    _held.update({id(parameter): (parameter, copy, loans) for parameter, copy in pairs})
    try:
        yield loans
    finally:
        for parameter in parameters:
            _held.pop(id(parameter), None)


def _hooked(parameter: Tensor) -> bool:
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value.to(dtype)`; of what `lent` holds in this dtype, a loan."""
    parameter, copy, loans = _held.get(id(value), (None, None, None))
    if parameter is not value or copy is None or loans is None or copy.dtype != dtype:
        return value.to(dtype)
    return loans.of(value, copy) if torch.is_grad_enabled() and value.requires_grad else copy
