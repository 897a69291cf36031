"""Small classifiers of volumes, whose last layer but one is an encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastgan.errors import ConfigError
from fastgan.models.ladder import build_ladder
from fastgan.nn import NORMS, ConvChain, ConvNormAct3d, channels_last, he_normal_
from fastgan.nn.choices import check_choice
from fastgan.ops import fold

__all__ = ["Classifier", "build_classifier"]

SLOPE = 0.2
MINIMUM = 2
# Blocks become channels until an axis has at most so many of them, half as many if it is short:
# strided convolutions of one channel at full size would cost more than everything behind them.
MOST_BLOCKS = 16
FACTORS = (1, 2, 3, 4, 5, 6, 8)


class Classifier(nn.Module):
    """Stages, pooling, features, one logit per class. Built by `build_classifier`.

    Mean and maximum of each channel are pooled over the coarsest grid: the mean sees how much of
    something there is, the maximum that it is there at all, neither where.

    Attributes:
        shape, channels, num_classes: of the volumes and labels.
        num_features: F.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        channels: int,
        num_classes: int,
        num_features: int,
        blocks: tuple[int, int, int],
        width: int,
        stages: ConvChain,
    ) -> None:
        super().__init__()
        self.shape, self.channels, self.num_classes = shape, channels, num_classes
        self.num_features, self.blocks = num_features, blocks
        self.stages = stages
        self.hidden = nn.Linear(2 * width, num_features)
        self.head = nn.Linear(num_features, num_classes)
        he_normal_(self.hidden, SLOPE)
        he_normal_(self.head, negative_slope=1.0)

    def features(self, x: Tensor) -> Tensor:
        """Encode volumes.

        Args:
            x: [B, C, D, H, W] in [-1, 1], any layout.

        Returns:
            [B, F] float32, what the logits are a linear function of.

        Raises:
            ConfigError: another shape.
        """
        if x.dim() != 5 or tuple(x.shape[1:]) != (self.channels, *self.shape):
            raise ConfigError(
                f"classifier: x must be [B, {self.channels}, {', '.join(map(str, self.shape))}], "
                f"got {list(x.shape)}"
            )
        y: Tensor = self.stages(fold(channels_last(x), self.blocks))
        places = y.permute(0, 2, 3, 4, 1).flatten(1, 3)
        pooled = torch.cat([places.mean(1), places.amax(1)], dim=1)
        return functional.leaky_relu(self.hidden(pooled), SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, D, H, W] -> [B, K] logits."""
        logits: Tensor = self.head(self.features(x))
        return logits


def build_classifier(
    *,
    shape: Sequence[int],
    num_classes: int,
    channels: int = 1,
    classifier_channels: Sequence[int] = (16, 32, 64),
    num_features: int = 64,
    norm: str = "none",
) -> Classifier:
    """A classifier for volumes of `shape`.

    Blocks of voxels become channels, so that axes have at most 16 of them where it divides; then
    convolution, norm, LeakyReLU(0.2) per stage, halving axes down to 2. The first stage has no
    norm, so that intensities and sizes reach the logits. Weights: He's normal, drawn from torch's
    global generator.

    Args:
        shape: D, H, W voxels.
        num_classes: K, at least 2.
        channels: C of the volumes.
        classifier_channels: channels from the finest stage to the coarsest; as many stages.
        num_features: F.
        norm: instance | group | layer | none.

    Raises:
        ConfigError: an unknown name, fewer than two classes, or a shape the stages cannot bring
            down to a small grid.

    Cost: about 7 million multiplications a volume of 32^3.

    >>> model = build_classifier(shape=(16, 16, 6), num_classes=2)
    >>> model.features(torch.randn(3, 1, 16, 16, 6)).shape
    torch.Size([3, 64])
    """
    check_choice("classifier: norm", norm, NORMS)
    if num_classes < 2:
        raise ConfigError(f"classifier: at least two classes, got {num_classes}")
    widths = list(classifier_channels)
    if not widths or min(widths) < 1 or num_features < 1:
        raise ConfigError("classifier_channels and num_features: positive numbers")
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    blocks = (_block(size[0]), _block(size[1]), _block(size[2]))
    grid = [n // f for n, f in zip(size, blocks, strict=True)]
    ladder = build_ladder(grid, len(widths), minimum=MINIMUM, where="classifier_channels")
    before = channels * math.prod(blocks)
    stages = []
    for index, (after, stride) in enumerate(zip(widths, ladder.strides, strict=True)):
        stages.append(
            ConvNormAct3d(
                before, after, stride=stride, norm=norm if index else "none", negative_slope=SLOPE
            )
        )
        before = after
    return Classifier(
        shape=size,
        channels=channels,
        num_classes=num_classes,
        num_features=num_features,
        blocks=blocks,
        width=widths[-1],
        stages=ConvChain(*stages),
    )


def _block(length: int) -> int:
    """The smallest factor that leaves few enough blocks, else the largest that divides."""
    most = MOST_BLOCKS if length > MOST_BLOCKS else MOST_BLOCKS // 2
    dividing = [f for f in FACTORS if length % f == 0]
    return next((f for f in dividing if length // f <= most), dividing[-1])
