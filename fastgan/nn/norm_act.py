"""Normalisation, affine and LeakyReLU in one module, with or without a class condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.errors import ConfigError
from fastgan.nn.choices import check_choice

__all__ = ["NORMS", "NormAct3d"]

NORMS = ("instance", "group", "layer", "none")
# Wu and He (2018) find 8 to 32 groups alike; 8 still divides narrow 3D stages.
MOST_GROUPS = 8


class NormAct3d(nn.Module):
    """leaky_relu(affine(normalise(x))).

    instance: each channel of each sample; group: up to 8 groups of channels of a sample; layer:
    a whole sample; none: only a bias and the activation. With classes the affine of a sample is
    looked up by its label and starts as the identity for every class.

    Args:
        channels: C.
        norm: instance | group | layer | none.
        num_classes: K, 0 for an unconditional affine. Not with norm "none".
        negative_slope: 0 is ReLU, 1 no activation.
        eps: added to the variance.

    Raises:
        ConfigError: an unknown norm, or classes with norm "none".

    Source: conditional affine: de Vries et al. 2017, "Modulating early visual processing".
    """

    def __init__(
        self,
        channels: int,
        norm: str = "instance",
        *,
        num_classes: int = 0,
        negative_slope: float = 0.2,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_choice("norm", norm, NORMS)
        if norm == "none" and num_classes:
            raise ConfigError("norm 'none' has no affine to condition on a label")
        self.channels, self.norm, self.num_classes = channels, norm, num_classes
        self.negative_slope, self.eps = negative_slope, eps
        self.num_groups = _num_groups(channels, norm)
        if num_classes:
            self.affine = nn.Embedding(num_classes, 2 * channels)
            with torch.no_grad():
                self.affine.weight[:, :channels] = 1.0
                self.affine.weight[:, channels:] = 0.0
        else:
            self.bias = nn.Parameter(torch.zeros(channels))
            if norm != "none":
                self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x: [B, C, D, H, W]; labels: [B] int64, needed with classes, else not looked at."""
        if self.norm == "none":
            return ops.bias_act(x, self.bias, negative_slope=self.negative_slope)
        return self.finish(x, labels)

    def affine_of(self, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight and bias, [C], or [B, C] where labels choose them. Not with norm "none"."""
        if not self.num_classes:
            return self.weight, self.bias
        if labels is None:
            raise ConfigError(f"NormAct3d: labels are missing for {self.num_classes} classes")
        weight, bias = self.affine(labels).chunk(2, dim=1)
        return weight, bias

    def finish(
        self, x: Tensor, labels: Tensor | None = None, statistics: Tensor | None = None
    ) -> Tensor:
        """`forward` of a real norm, with the statistics of x [B, G, 2] where they are known."""
        weight, bias = self.affine_of(labels)
        return ops.norm_act(
            x,
            weight,
            bias,
            num_groups=self.num_groups,
            eps=self.eps,
            negative_slope=self.negative_slope,
            statistics=statistics,
        )

    def extra_repr(self) -> str:
        """What print shows of the module."""
        return f"{self.channels}, norm={self.norm}, negative_slope={self.negative_slope}"


def _num_groups(channels: int, norm: str) -> int:
    if norm == "group":
        return max(g for g in range(1, MOST_GROUPS + 1) if channels % g == 0)
    return {"instance": channels, "layer": 1, "none": 0}[norm]
