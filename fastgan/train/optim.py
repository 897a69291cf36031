"""Adam over the parameters of one phase, with a skip decided on the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["PhaseOptimiser", "lr_factor"]

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
EPS = 1e-8
"""Added to the root of the second moment; PyTorch's default."""


class PhaseOptimiser:
    """Adam, fused into one kernel, for named parameters.

    Args:
        parameters: name to trainable parameter; the order is the order of the update.
        lr: learning rate, > 0.
        betas: decay of first and second moment, in [0, 1).

    The learning rate is a tensor on their device, where a captured CUDA graph reads it.

    Cost: reads parameter, gradient and two moments once, writes three of them; three launches.
    Deterministic: yes.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], lr: float, betas: tuple[float, float]
    ) -> None:
        self.parameters = dict(parameters)
        self.lr, self._betas, self._factor = lr, betas, 1.0
        # Made now, not in the first step, so that a checkpoint always has the same tensors.
        self._moments = {
            name: {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
            for name, parameter in self.parameters.items()
        }
        device = next((p.device for p in self.parameters.values()), torch.device("cpu"))
        # The kernel of a GPU reads a float32; that of a CPU, whatever it is, as a float64.
        exact = torch.float64 if device.type == "cpu" else torch.float32
        self._rate = torch.full((), lr, dtype=exact, device=device)
        self._kinds = {
            p.dtype: [n for n, q in self.parameters.items() if q.dtype == p.dtype]
            for p in self.parameters.values()
        }

    def gradients(self) -> list[Tensor]:
        """Gradients of the parameters that have one."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def clear(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def scale_rate(self, factor: float) -> None:
        """Let the learning rate be `lr * factor`: a launch where that is not what it was."""
        if factor != self._factor:
            self._factor = factor
            self._rate.fill_(self.lr * factor)

    def step(self, skip: Tensor) -> None:
        """Update the parameters, or leave them and all moments untouched.

        Args:
            skip: float32 scalar on the parameters' device; 1 skips, 0 does not. Never read by
                the host, so the step does not wait for the device.
        """
        for parameter in self.parameters.values():
            # The fused kernel walks memory, not indices: strides that differ would pair wrongly.
            if parameter.grad is not None and not _laid_out_alike(parameter.grad, parameter):
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
        for names in self._kinds.values():
            self._update([n for n in names if self.parameters[n].grad is not None], skip)

    @torch.no_grad()
    def _update(self, names: list[str], skip: Tensor) -> None:
        """What torch.optim.Adam does with these parameters, of one dtype."""
        parameters: list[Tensor] = [self.parameters[name] for name in names]
        gradients = [p.grad for p in parameters if p.grad is not None]
        steps, first, second = ([self._moments[n][m] for n in names] for m in _MOMENTS)
        if not names:
            return
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters,
            gradients,
            first,
            second,
            [],
            steps,
            lr=self._rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=0.0,
            eps=EPS,
            amsgrad=False,
            maximize=False,
            found_inf=skip,
        )
        # An update that was left out counts for none.
        torch._foreach_sub_(steps, [skip] * len(steps))

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by `<parameter>.<moment>`: the live tensors, not copies."""
        return {
            f"{name}.{moment}": self._moments[name][moment]
            for name in self.parameters
            for moment in _MOMENTS
        }


def _laid_out_alike(a: Tensor, b: Tensor) -> bool:
    """Whether an element of both, which have one shape, is at the same place in memory."""
    strides = zip(a.shape, a.stride(), b.stride(), strict=True)
    return all(size == 1 or one == other for size, one, other in strides)


def lr_factor(step: int, steps: int, decay: str) -> float:
    """Factor of the learning rate at `step` (0-based) of `steps`.

    `none`: 1. `linear`: 1 in the first half, then in equal steps towards 0 at `steps`.
    """
    if decay == "none":
        return 1.0
    half = steps // 2
    return min(1.0, (steps - step) / (steps - half))
