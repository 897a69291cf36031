"""Critics (discriminators): from a volume, and a label, to one score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fastgan.errors import ConfigError
from fastgan.models.generator import ARCHITECTURES
from fastgan.models.ladder import build_ladder, folded_shape
from fastgan.nn import (
    NORMS,
    ConvChain,
    ConvNormAct3d,
    Linear,
    NormAct3d,
    ResidualDown3d,
    channels_last,
    check_labels,
    he_normal_,
    weights_channels_last,
)
from fastgan.nn.choices import check_choice
from fastgan.ops import fold

__all__ = ["Critic", "build_critic"]

SLOPE = 0.2
MINIMUM = 2
# Of variances; the root's slope, and a penalty's second one, stay moderate where a feature is flat.
SPREAD_EPS = 1e-4


class Critic(nn.Module):
    """Score <w, phi(x)> + b, with classes + <embed(y), phi(x)>. Built by `build_critic`.

    phi(x) are all features of the coarsest grid, so a label may ask for something at a place.

    Attributes:
        shape, channels, num_classes: of the volumes and labels.
        group: samples over which features spread; 0: the score of a sample is its own.

    Source: projection: Miyato and Koyama 2018, "cGANs with projection discriminator"; spread:
    Karras et al. 2018, "Progressive growing of GANs", section 3 (there one number for all).
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        channels: int,
        num_classes: int,
        blocks: tuple[int, int, int],
        features: int,
        group: int,
        stages: ConvChain,
    ) -> None:
        super().__init__()
        self.shape, self.channels, self.num_classes = shape, channels, num_classes
        self.blocks, self.group = blocks, group
        self.stages = stages
        features *= 2 if group else 1
        self.head = Linear(features, 1)
        he_normal_(self.head, negative_slope=1.0)
        if num_classes:
            self.embed = nn.Embedding(num_classes, features)
            with torch.no_grad():
                self.embed.weight.normal_(0.0, 1.0 / math.sqrt(features))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score volumes.

        Args:
            x: [B, C, D, H, W], any layout.
            labels: [B] int64 in [0, K) with classes, else None.

        Returns:
            [B] scores, unbounded; higher is more real.
        """
        if x.dim() != 5 or tuple(x.shape[1:]) != (self.channels, *self.shape):
            raise ConfigError(
                f"critic: x must be [B, {self.channels}, {', '.join(map(str, self.shape))}], "
                f"got {list(x.shape)}"
            )
        check_labels("critic", labels, self.num_classes, x.shape[0])
        return self.score(x, labels)

    def score(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """`forward` of what has been checked."""
        folded = fold(channels_last(x), self.blocks)
        features: Tensor = self.stages(folded).permute(0, 2, 3, 4, 1).flatten(1)
        # bfloat16 keeps three digits of a sum over thousands of features, so not under autocast.
        with torch.autocast(x.device.type, enabled=False):
            wide = features.to(self.head.bias.dtype)
            if self.group:
                wide = torch.cat([wide, self._spread(wide, labels)], 1)
            score: Tensor = self.head(wide).squeeze(1)
            if not self.num_classes:
                return score
            asked: Tensor = self.embed(labels)
            return score + (asked * wide).sum(1)

    def _spread(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """[B, F]: standard deviation of each feature among a sample's group and class."""
        batch = features.shape[0]
        if batch % self.group:
            raise ConfigError(
                f"critic: minibatch_stddev {self.group} does not divide a batch of {batch}"
            )
        members = torch.unflatten(features, 0, (-1, self.group))
        classes = torch.zeros(batch, device=features.device) if labels is None else labels
        classes = torch.unflatten(classes, 0, (-1, self.group))
        alike = (classes[:, :, None] == classes[:, None, :]).to(features.dtype)
        share = alike / alike.sum(2, keepdim=True)
        deviation = members - share @ members
        spread: Tensor = (share @ deviation.square() + SPREAD_EPS).sqrt().flatten(0, 1)
        return spread


def build_critic(
    *,
    architecture: str,
    shape: Sequence[int],
    channels: int = 1,
    critic_channels: Sequence[int],
    norm: str,
    num_classes: int = 0,
    spectral_norm: bool = False,
    fold: Sequence[int] = (1, 1, 1),
    minibatch_stddev: int = 0,
) -> Critic:
    """A critic for volumes of `shape`.

    dcgan: strided convolution, norm, LeakyReLU(0.2) per stage (kernel 4 where an axis halves,
    else 3). residual: one such convolution, then pre-activation blocks with average pooling. The
    first stage has no norm, so that intensities reach the score. Weights: He's normal; drawn from
    torch's global generator.

    Args:
        architecture: dcgan | residual.
        shape: D, H, W voxels.
        channels: C of the volumes.
        critic_channels: channels from the finest stage to the coarsest; as many stages.
        norm: instance | group | layer | none.
        num_classes: K, 0 for unconditional.
        spectral_norm: divide every weight matrix by its largest singular value (of the [out,
            in * kernel] matrix, by power iteration; an embedding's too).
        fold: block of voxels that the first stage takes as channels; (1, 1, 1) for none.
        minibatch_stddev: beside each feature of the coarsest grid the score sees its standard
            deviation among the samples of one class in a group of this many neighbours of the
            batch, which this has to divide; 0: no such thing.

    Raises:
        ConfigError: an unknown name, or a shape the stages cannot bring down to a small grid.

    >>> facts = {"architecture": "dcgan", "shape": (16, 16, 8), "norm": "none"}
    >>> build_critic(**facts, critic_channels=(4, 8))(torch.randn(2, 1, 16, 16, 8)).shape
    torch.Size([2])
    """
    check_choice("critic: architecture", architecture, ARCHITECTURES)
    check_choice("critic: norm", norm, NORMS)
    widths = list(critic_channels)
    if not widths or min(widths) < 1:
        raise ConfigError("critic_channels: at least one positive number of channels")
    folded = folded_shape(shape, fold, "critic")
    ladder = build_ladder(folded, len(widths), minimum=MINIMUM, where="critic_channels")
    stages: list[nn.Module] = []
    for index, (after, stride) in enumerate(zip(widths, ladder.strides, strict=True)):
        before = widths[index - 1] if index else channels * math.prod(fold)
        if index and architecture == "residual":
            stages.append(ResidualDown3d(before, after, stride=stride, norm=norm))
            continue
        # A residual block activates on entry, so the convolution before one does not.
        slope = SLOPE if architecture == "dcgan" else 1.0
        stage_norm = norm if index else "none"
        stages.append(
            ConvNormAct3d(before, after, stride=stride, norm=stage_norm, negative_slope=slope)
        )
    if architecture == "residual":
        stages.append(NormAct3d(widths[-1], norm))
    critic = Critic(
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        channels=channels,
        num_classes=num_classes,
        blocks=(fold[0], fold[1], fold[2]),
        features=widths[-1] * math.prod(ladder.coarsest),
        group=minibatch_stddev,
        stages=ConvChain(*stages),
    )
    if spectral_norm:
        for module in list(critic.modules()):
            if isinstance(module, nn.Conv3d | nn.Linear | nn.Embedding):
                parametrizations.spectral_norm(module)
    return weights_channels_last(critic)
