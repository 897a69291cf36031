"""Operators computed by PyTorch's own, for programs that are to run without this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fastgan.ops.implementations.dispatch import implementation
from fastgan.ops.registration import KERNELS

__all__ = ["plain_operators"]

_BACKWARD = (torch.ops.aten.convolution_backward, torch.ops.aten.convolution_backward.default)
_INPUT_ALONE = [True, False, False]


@contextmanager
def plain_operators() -> Iterator[None]:
    """Inside, whatever records a program sees operators of PyTorch and none of this package.

    Values are those of the reference. There are no derivatives.
    """
    with implementation("reference"), torch.no_grad(), _Plain():
        yield


class _Plain(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # Exchange formats have a transposed convolution, and no derivative of a convolution.
        if func in _BACKWARD and not args[7] and args[10] == _INPUT_ALONE:
            return _transposed(*args), None, None
        if func in KERNELS:
            with self:  # a kernel may call further operators
                return KERNELS[func](*args)
        return func(*args, **(kwargs or {}))


def _transposed(
    g: torch.Tensor,  # [B, K, D', H', W']
    like: torch.Tensor,  # [B, C, D, H, W]
    weight: torch.Tensor,  # [K, C, kD, kH, kW]
    _sizes: object,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    _transposed: bool,
    _extra: Sequence[int],
    groups: int,
    _mask: object,
) -> torch.Tensor:
    """The gradient of a convolution's input, as the transposed convolution that it is."""
    axes = zip(
        like.shape[2:], g.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
    )
    extra = [n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in axes]
    return functional.conv_transpose3d(
        g, weight, None, list(stride), list(padding), extra, groups, list(dilation)
    )
