"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Ema"]


class Ema:
    """Averages of the parameters of modules; buffers are copied.

    average <- average + (1 - d) (weight - average), d = min(decay, (1 + t) / (10 + t)),

    where t counts updates: the early average forgets the random weights it began from.

    Args:
        modules: name to module; their weights at this moment are the first average.
        decay: in [0, 1).

    Cost: reads weight and average, writes average; one or two kernels for all tensors.
    Source: Karras et al. 2018, "Progressive growing of GANs", for the generator's average; the
        warm-up of d is that of TensorFlow's ExponentialMovingAverage with `num_updates`.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self._live = {name: module.state_dict() for name, module in modules.items()}
        learned = {
            f"{name}/{key}"
            for name, module in modules.items()
            for key, _ in module.named_parameters(remove_duplicate=False)
        }
        self.parts = {
            name: {key: tensor.clone() for key, tensor in state.items()}
            for name, state in self._live.items()
        }
        """Module name to state-dict name to averaged tensor: the live tensors, not copies."""
        pairs = [
            (f"{name}/{key}" in learned, self.parts[name][key], tensor)
            for name, state in self._live.items()
            for key, tensor in state.items()
        ]
        self._averages = [average for is_learned, average, _ in pairs if is_learned]
        self._weights = [weight for is_learned, _, weight in pairs if is_learned]
        self._copies = [
            (average, weight) for is_learned, average, weight in pairs if not is_learned
        ]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the weights after `step` (0-based) earlier updates."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1.0 - decay)
        for average, weight in self._copies:
            average.copy_(weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the modules hold the averages; afterwards, bit for bit what they held before."""
        pairs = [
            (tensor, self.parts[name][key])
            for name, state in self._live.items()
            for key, tensor in state.items()
        ]
        held = [tensor.clone() for tensor, _ in pairs]
        with torch.no_grad():
            for tensor, average in pairs:
                tensor.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for (tensor, _), weight in zip(pairs, held, strict=True):
                    tensor.copy_(weight)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The averages by part name `ema.<module>`, as checkpoints hold them."""
        return {f"ema.{name}": state for name, state in self.parts.items()}
