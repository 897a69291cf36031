"""All that the ranks average after a backward pass, as one row of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Bucket"]


class Bucket:
    """Gradients, then loss, metrics, which metrics are known, and flags.

    Args:
        gradients: any shapes and strides.
        loss: scalar.
        metrics: name to scalar; NaN where this rank knows nothing.
        flags: small numbers of the host.

    Attributes:
        numbers: [n], to be summed over the ranks in place; float32, or wider with the gradients.
    """

    def __init__(
        self,
        gradients: Sequence[Tensor],
        loss: Tensor,
        metrics: Mapping[str, Tensor],
        flags: Sequence[float],
    ) -> None:
        self._gradients, self._loss, self._names = list(gradients), loss, list(metrics)
        self._flags = len(flags)
        dtype = torch.float32
        for tensor in (*gradients, loss):
            dtype = torch.promote_types(dtype, tensor.dtype)
        with torch.no_grad():
            rest = [torch.full((), flag, dtype=dtype, device=loss.device) for flag in flags]
            if metrics:
                values = torch.stack([value.to(dtype).reshape(()) for value in metrics.values()])
                rest = [values.nan_to_num(0.0), (~values.isnan()).to(dtype), *rest]
            parts = [tensor.to(dtype).reshape(-1) for tensor in (*gradients, loss, *rest)]
            self.numbers = torch.cat(parts)

    def spread(self, count: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Make the means of `count` ranks' sums the gradients; the loss, metrics and flags."""
        with torch.no_grad():
            self.numbers /= count
            sizes = [gradient.numel() for gradient in self._gradients]
            metrics = len(self._names)
            *parts, loss, values, known, flags = torch.split_with_sizes(
                self.numbers, [*sizes, 1, metrics, metrics, self._flags]
            )
            means = [
                part.view(gradient.shape)
                for part, gradient in zip(parts, self._gradients, strict=True)
            ]
            torch._foreach_copy_(self._gradients, means)
            named = dict(zip(self._names, (values / known).unbind(), strict=True))
            return loss.reshape(()).to(self._loss.dtype), named, flags
