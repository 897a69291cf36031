"""Patch critics: from a volume to a map of scores, each of one neighbourhood."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fastgan.errors import ConfigError
from fastgan.models.ladder import folded_shape
from fastgan.models.translator import check_stride, check_volume
from fastgan.nn import (
    NORMS,
    Conv3d,
    ConvNormAct3d,
    channels_last,
    he_normal_,
    weights_channels_last,
)
from fastgan.nn.choices import check_choice
from fastgan.ops import fold

__all__ = ["PatchCritic", "build_patch_critic"]

SLOPE = 0.2


class PatchCritic(nn.Module):
    """Stages, then one score per place of the coarsest grid. Built by `build_patch_critic`.

    It judges texture and neighbourhoods, not the arrangement of the whole volume: a translator
    takes that from its source.

    Attributes:
        channels: C of the volumes.
        blocks: three factors that must divide D, H, W.
        stride: the map is that much smaller, rounded down; the least D, H, W.
        field: voxels along each axis that one score depends on.
    """

    def __init__(
        self,
        *,
        channels: int,
        blocks: tuple[int, int, int],
        stages: nn.Sequential,
        width: int,
    ) -> None:
        super().__init__()
        self.channels, self.blocks = channels, blocks
        halvings = len(stages) - 1
        d, h, w = (size * 2**halvings for size in blocks)
        self.stride = (d, h, w)
        # Kernel 4 where halved, then kernel 3 twice on the coarsest grid.
        blocks_seen = 1 + sum(3 * 2**i for i in range(halvings)) + 2 * 2 * 2**halvings
        self.field = tuple(size * blocks_seen for size in blocks)
        self.stages = stages
        self.head = Conv3d(width, 1, 3, padding=1)
        he_normal_(self.head, negative_slope=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Score neighbourhoods.

        Args:
            x: [B, C, D, H, W], any layout; D, H, W multiples of `blocks`.

        Returns:
            [B, D // s0, H // s1, W // s2] scores, unbounded; higher is more real.

        Raises:
            ConfigError: another number of channels, or an axis that `blocks` does not divide or
                that is shorter than `stride`.
        """
        check_volume("patch critic", x, self.channels, self.blocks, self.stride)
        features: Tensor = self.stages(fold(channels_last(x), self.blocks))
        # bfloat16 keeps three digits of a sum over thousands of features, so not under autocast.
        with torch.autocast(x.device.type, enabled=False):
            scores: Tensor = self.head(features.to(self.head.weight.dtype))
        return scores.squeeze(1)


def build_patch_critic(
    *,
    shape: Sequence[int],
    channels: int = 1,
    patch_critic_channels: Sequence[int],
    norm: str,
    spectral_norm: bool = False,
    fold: Sequence[int] = (1, 1, 1),
) -> PatchCritic:
    """A patch critic for volumes of `shape`.

    Convolution, norm, LeakyReLU(0.2) per stage; every stage but the last has kernel 4 and halves
    the grid. The first stage has no norm, so that intensities reach the scores. Weights: He's
    normal, drawn from torch's global generator.

    Args:
        shape: D, H, W voxels.
        channels: C of the volumes.
        patch_critic_channels: channels from the finest stage to the coarsest; as many stages.
        norm: instance | group | layer | none.
        spectral_norm: divide every weight matrix by its largest singular value.
        fold: block of voxels that the first stage takes as channels; (1, 1, 1) for none.

    Raises:
        ConfigError: an unknown name, or a shape too small to be halved so often.

    Source: Isola et al. 2017, "Image-to-image translation with conditional adversarial networks".

    >>> critic = build_patch_critic(shape=(16, 16, 8), patch_critic_channels=(4, 8), norm="none")
    >>> critic(torch.randn(2, 1, 16, 16, 8)).shape, critic.field
    (torch.Size([2, 8, 8, 4]), (12, 12, 12))
    """
    check_choice("patch critic: norm", norm, NORMS)
    widths = list(patch_critic_channels)
    if not widths or min(widths) < 1:
        raise ConfigError("patch_critic_channels: at least one positive number of channels")
    folded = folded_shape(shape, fold, "patch critic")
    check_stride("patch_critic_channels", folded, len(widths) - 1)
    stages = []
    before = channels * math.prod(fold)
    for index, after in enumerate(widths):
        stride = (1, 1, 1) if index == len(widths) - 1 else (2, 2, 2)
        stage_norm = norm if index else "none"
        stages.append(
            ConvNormAct3d(before, after, stride=stride, norm=stage_norm, negative_slope=SLOPE)
        )
        before = after
    critic = PatchCritic(
        channels=channels,
        blocks=(fold[0], fold[1], fold[2]),
        stages=nn.Sequential(*stages),
        width=widths[-1],
    )
    if spectral_norm:
        for module in list(critic.modules()):
            if isinstance(module, nn.Conv3d):
                parametrizations.spectral_norm(module)
    return weights_channels_last(critic)
