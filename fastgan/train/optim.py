"""Adam over the parameters of one phase, with a skip decided on the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["PhaseOptimiser", "lr_factor"]

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class PhaseOptimiser:
    """Adam, fused into one kernel, for named parameters.

    Args:
        parameters: name to trainable parameter; the order is the order of the update.
        lr: learning rate, > 0.
        betas: decay of first and second moment, in [0, 1).

    Cost: reads parameter, gradient and two moments once, writes three of them.
    Deterministic: yes.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], lr: float, betas: tuple[float, float]
    ) -> None:
        self.parameters = dict(parameters)
        self.lr = lr
        self._adam = torch.optim.Adam(self.parameters.values(), lr=lr, betas=betas, fused=True)
        # Made now, not in the first step, so that a checkpoint always has the same tensors.
        for parameter in self.parameters.values():
            self._adam.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }

    def gradients(self) -> list[Tensor]:
        """Gradients of the parameters that have one."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def clear(self) -> None:
        """Drop all gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(self, skip: Tensor, factor: float = 1.0) -> None:
        """Update the parameters with `lr * factor`, or leave them and all moments untouched.

        Args:
            skip: float32 scalar on the parameters' device; 1 skips, 0 does not. Never read by
                the host, so the step does not wait for the device.
            factor: of the learning rate, from `lr_factor`.
        """
        for parameter in self.parameters.values():
            # The fused kernel walks memory, not indices: strides that differ would pair wrongly.
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
        self._adam.param_groups[0]["lr"] = self.lr * factor
        # The two attributes torch.amp.GradScaler hands to fused optimisers.
        self._adam.grad_scale = None  # type: ignore[attr-defined]
        self._adam.found_inf = skip  # type: ignore[attr-defined]
        self._adam.step()

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by `<parameter>.<moment>`: the live tensors, not copies."""
        return {
            f"{name}.{moment}": self._adam.state[parameter][moment]
            for name, parameter in self.parameters.items()
            for moment in _MOMENTS
        }


def lr_factor(step: int, steps: int, decay: str) -> float:
    """Factor of the learning rate at `step` (0-based) of `steps`.

    `none`: 1. `linear`: 1 in the first half, then in equal steps towards 0 at `steps`.
    """
    if decay == "none":
        return 1.0
    half = steps // 2
    return min(1.0, (steps - step) / (steps - half))
