"""Translators: from a volume of one domain to the same anatomy in another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.models.generator import HEADROOM
from fastgan.models.ladder import folded_shape
from fastgan.nn import (
    NORMS,
    Conv3d,
    ConvNormAct3d,
    NormAct3d,
    ResidualDown3d,
    channels_last,
    he_normal_,
    weights_channels_last,
)
from fastgan.nn.choices import check_choice
from fastgan.ops import fold, unfold

__all__ = ["TRANSLATORS", "Translator", "build_translator"]

TRANSLATORS = ("resnet", "unet")


class Translator(nn.Module):
    """Volume -> stem -> downs -> residual blocks -> ups -> head -> volume. By `build_translator`.

    Fully convolutional: it takes any shape of whole blocks from `stride` voxels on, so whole
    volumes run through it window by window. Windows of the training shape reproduce training where
    norms look at a whole window. A grid of odd length is halved to the whole voxels in it, and on
    the way up gets its length back.

    Attributes:
        channels: C of the volumes, the same on both sides.
        blocks: three factors that must divide D, H, W.
        stride: the least D, H, W; voxels beside each other on the coarsest grid are so far apart.
    """

    def __init__(
        self,
        *,
        channels: int,
        blocks: tuple[int, int, int],
        stem: nn.Module,
        downs: Sequence[nn.Module],
        body: nn.Module,
        ups: Sequence[nn.Module],
        skips: bool,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.channels, self.blocks, self.skips = channels, blocks, skips
        d, h, w = (size * 2 ** len(downs) for size in blocks)
        self.stride = (d, h, w)
        self.stem, self.body, self.head = stem, body, head
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)

    def forward(self, x: Tensor) -> Tensor:
        """Translate volumes.

        Args:
            x: [B, C, D, H, W] in [-1, 1], any layout; D, H, W multiples of `blocks`.

        Returns:
            [B, C, D, H, W] in x's dtype, channels_last_3d, in [-1.04, 1.04]; to be clipped to
            [-1, 1] where they leave training.

        Raises:
            ConfigError: another number of channels, or an axis that `blocks` does not divide or
                that is shorter than `stride`.
        """
        check_volume("translator", x, self.channels, self.blocks, self.stride)
        y: Tensor = self.stem(fold(channels_last(x), self.blocks))
        passed = []
        for down in self.downs:
            passed.append(y)
            y = down(y)
        y = self.body(y)
        for up in self.ups:
            finer = passed.pop()
            size = finer.shape[2:]
            y = up(y, size=size) if any(n % 2 for n in size) else up(y)
            if self.skips:
                y = torch.cat([y, finer], dim=1)
        # Back from an autocast dtype: bfloat16 has 256 values in [-1, 1].
        y = unfold(self.head(y).to(x.dtype), self.blocks)
        return channels_last(HEADROOM * torch.tanh(y))


def check_volume(
    where: str, x: Tensor, channels: int, blocks: Sequence[int], stride: Sequence[int]
) -> None:
    """Refuse what a fully convolutional network cannot take.

    Raises:
        ConfigError: not [B, channels, D, H, W], or an axis that is no multiple of its block or
            shorter than its stride.
    """
    if x.dim() != 5 or x.shape[1] != channels:
        raise ConfigError(f"{where}: x must be [B, {channels}, D, H, W], got {list(x.shape)}")
    axes = list(zip(x.shape[2:], blocks, stride, strict=True))
    if any(size % block or size < least for size, block, least in axes):
        factors, least = (" x ".join(map(str, sizes)) for sizes in (blocks, stride))
        raise ConfigError(
            f"{where}: D, H, W must be multiples of its blocks {factors} and at least its stride "
            f"{least}, got {list(x.shape[2:])}"
        )


def build_translator(
    *,
    architecture: str,
    shape: Sequence[int],
    channels: int = 1,
    translator_channels: Sequence[int],
    blocks: int,
    kernel: int = 3,
    norm: str,
    fold: Sequence[int] = (1, 1, 1),
) -> Translator:
    """A translator whose training windows are of `shape`.

    resnet: stem, a convolution of kernel 4 and stride 2 per further entry of
    `translator_channels`, pre-activation residual blocks on the coarsest grid, transposed
    convolutions back, and a convolution. unet: the same, and every grid but the coarsest is also
    handed over to its mirror on the way up, so the finest detail need not pass the coarse grid.
    ReLU throughout. Weights: He's normal, drawn from torch's global generator.

    Args:
        architecture: resnet | unet.
        shape: D, H, W voxels.
        channels: C of the volumes of both domains.
        translator_channels: from the finest grid to the coarsest; each entry after the first
            halves the grid.
        blocks: residual blocks on the coarsest grid, >= 0.
        kernel: 1 | 3, of stem, residual blocks and head. 1 with a single entry of
            `translator_channels` translates each block of `fold` voxels by itself: anatomy can
            neither move nor be invented beyond a block.
        norm: instance | group | layer | none.
        fold: block of voxels that stem and head treat as channels; (1, 1, 1) for none.

    Raises:
        ConfigError: an unknown name, or a shape too small to be halved so often.

    Source: Johnson et al. 2016, "Perceptual losses for real-time style transfer"; Ronneberger et
        al. 2015, "U-Net".

    >>> facts = {"architecture": "resnet", "shape": (8, 8, 4), "norm": "instance"}
    >>> translator = build_translator(**facts, translator_channels=(4, 8), blocks=2)
    >>> translator(torch.zeros(1, 1, 16, 8, 4)).shape, translator.stride
    (torch.Size([1, 1, 16, 8, 4]), (2, 2, 2))
    """
    check_choice("translator: architecture", architecture, TRANSLATORS)
    check_choice("translator: norm", norm, NORMS)
    widths = list(translator_channels)
    if not widths or min(widths) < 1:
        raise ConfigError("translator_channels: at least one positive number of channels")
    if kernel not in (1, 3):
        raise ConfigError(f"translator_kernel: must be 1 or 3, got {kernel}")
    if blocks < 0:
        raise ConfigError(f"translator_blocks: must be >= 0, got {blocks}")
    check_stride("translator_channels", folded_shape(shape, fold, "translator"), len(widths) - 1)
    skips = architecture == "unet"
    steps = list(itertools.pairwise(widths))
    downs = [_stage(before, after, norm, transposed=False) for before, after in steps]
    # What a skip hands over joins the channels of the stage before.
    ups = [
        _stage(after * (2 if skips and index else 1), before, norm, transposed=True)
        for index, (before, after) in enumerate(reversed(steps))
    ]
    folded = channels * math.prod(fold)
    residual = [
        ResidualDown3d(
            widths[-1], widths[-1], stride=(1, 1, 1), norm=norm, negative_slope=0.0, kernel=kernel
        )
        for _ in range(blocks)
    ]
    # Blocks activate on entry, so the last one's sum is activated here.
    body = [*residual, NormAct3d(widths[-1], norm, negative_slope=0.0)] if blocks else []
    head = Conv3d(widths[0] * (2 if skips and steps else 1), folded, kernel, padding=kernel // 2)
    he_normal_(head, negative_slope=1.0)
    translator = Translator(
        channels=channels,
        blocks=(fold[0], fold[1], fold[2]),
        stem=ConvNormAct3d(folded, widths[0], norm=norm, negative_slope=0.0, kernel=kernel),
        downs=downs,
        body=nn.Sequential(*body),
        ups=ups,
        skips=skips,
        head=head,
    )
    return weights_channels_last(translator)


def check_stride(setting: str, shape: Sequence[int], halvings: int) -> None:
    """Refuse a shape, in blocks of voxels, that cannot be halved so often.

    Raises:
        ConfigError: names the axis and what would do.
    """
    for axis, size in enumerate(shape):
        if size < 2**halvings:
            raise ConfigError(
                f"{setting}: axis {axis} has {size} blocks of voxels and cannot be halved "
                f"{halvings} times: at most {size.bit_length()} entries, or {2**halvings} blocks"
            )


def _stage(before: int, after: int, norm: str, *, transposed: bool) -> nn.Module:
    return ConvNormAct3d(
        before, after, stride=(2, 2, 2), transposed=transposed, norm=norm, negative_slope=0.0
    )
