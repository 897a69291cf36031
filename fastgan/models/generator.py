"""Generators: from a latent vector, and a label, to a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.models.ladder import build_ladder, folded_shape
from fastgan.nn import (
    NORMS,
    Conv3d,
    ConvNormAct3d,
    ConvTranspose3d,
    Linear,
    NormAct3d,
    ResidualUp3d,
    Smooth3d,
    channels_last,
    check_labels,
    he_normal_,
    run_chain,
    weights_channels_last,
)
from fastgan.nn.choices import check_choice
from fastgan.ops import unfold

__all__ = ["ARCHITECTURES", "OUTPUTS", "Generator", "build_generator"]

ARCHITECTURES = ("dcgan", "residual")
OUTPUTS = ("tanh", "linear")
# A thick axis keeps at least 3 voxels: a 3-voxel kernel then still sees neighbours there.
MINIMUM = 3
# Range of tanh. At 1, voxels that are -1 exactly (air, outside a mask) would be reached by endless
# logits without gradient, and borders could move no more; at 1.04 a tenth of it is left there.
HEADROOM = 1.04


class Generator(nn.Module):
    """z [B, L] -> linear -> coarsest grid -> stages -> volume. Built by `build_generator`.

    A conditional generator reads the label twice: an embedding of width L joins z (Mirza and
    Osindero 2014), and every norm's affine is looked up by it (identity at the start).

    Attributes:
        shape, channels, latent_dim, num_classes: of the volumes and of the input.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        channels: int,
        latent_dim: int,
        num_classes: int,
        output: str,
        grid: tuple[int, int, int],
        fold: tuple[int, int, int],
        smoothed: bool,
        width: int,
        stages: nn.ModuleList,
        last: nn.Module,
    ) -> None:
        super().__init__()
        self.shape, self.channels, self.latent_dim = shape, channels, latent_dim
        self.num_classes, self.output, self.grid, self.width = num_classes, output, grid, width
        self.fold = fold
        inputs = latent_dim * (2 if num_classes else 1)
        if num_classes:
            self.embed = nn.Embedding(num_classes, latent_dim)
        self.start = Linear(inputs, width * math.prod(grid))
        he_normal_(self.start, negative_slope=0.0)
        self.stages = stages
        self.last = last
        self.smooth: nn.Module = Smooth3d() if smoothed else nn.Identity()

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Draw volumes.

        Args:
            z: [B, L] standard normal.
            labels: [B] int64 in [0, K) with classes, else None.

        Returns:
            [B, C, D, H, W] in z's dtype, channels_last_3d; with output "tanh" in [-1.04, 1.04],
            to be clipped to [-1, 1] where they leave training.
        """
        if z.dim() != 2 or z.shape[1] != self.latent_dim:
            raise ConfigError(f"generator: z must be [B, {self.latent_dim}], got {list(z.shape)}")
        check_labels("generator", labels, self.num_classes, z.shape[0])
        joined = torch.cat([z, self.embed(labels)], dim=1) if self.num_classes else z
        # Features in NDHWC order: the grid is then a view, of as many planes as there are features.
        planes = torch.unflatten(self.start(joined), 1, (-1, *self.grid[1:], self.width))
        x = planes.permute(0, 4, 1, 2, 3)
        x = run_chain((*self.stages, self.last), x, labels)
        # Back from an autocast dtype: bfloat16 has 256 values in [-1, 1].
        x = unfold(x.to(z.dtype), self.fold)
        x = self.smooth(x)
        return channels_last(HEADROOM * torch.tanh(x) if self.output == "tanh" else x)


def build_generator(
    *,
    architecture: str,
    shape: Sequence[int],
    channels: int = 1,
    latent_dim: int,
    generator_channels: Sequence[int],
    norm: str,
    num_classes: int = 0,
    output: str = "tanh",
    fold: Sequence[int] = (1, 1, 1),
    smooth_output: bool = False,
) -> Generator:
    """A generator for volumes of `shape`.

    dcgan: ConvTranspose3d, norm, ReLU per stage (kernel 4 where an axis doubles, else 3); the last
    stage has neither norm nor ReLU and gives the volume. residual: pre-activation blocks with
    nearest enlargement, then norm, ReLU and a convolution. Weights: He's normal for the activation
    that follows, 1 / fan for the last layer; drawn from torch's global generator.

    Args:
        architecture: dcgan | residual.
        shape: D, H, W voxels, of any sizes that the stages can bring down to a small grid.
        channels: C of the volumes.
        latent_dim: L.
        generator_channels: channels from the coarsest grid to the finest; a stage after each, so
            as many halvings of each axis as a critic of as many channels has.
        norm: instance | group | layer | none.
        num_classes: K, 0 for unconditional.
        output: tanh | linear.
        fold: block of voxels that the last layer gives as channels; (1, 1, 1) for none.
        smooth_output: filter the last layer's output by `ops.smooth`: volumes without voxel noise
            from the first step on, for masks and others that are smooth.

    Raises:
        ConfigError: an unknown name, or a shape the stages cannot bring down to a small grid.

    >>> facts = {"architecture": "dcgan", "shape": (16, 16, 8), "norm": "instance"}
    >>> generator = build_generator(**facts, latent_dim=32, generator_channels=(8, 4))
    >>> generator(torch.randn(2, 32)).shape
    torch.Size([2, 1, 16, 16, 8])
    """
    check_choice("generator: architecture", architecture, ARCHITECTURES)
    check_choice("generator: norm", norm, NORMS)
    check_choice("generator: output", output, OUTPUTS)
    widths = list(generator_channels)
    if not widths or min(widths) < 1:
        raise ConfigError("generator_channels: at least one positive number of channels")
    folded = folded_shape(shape, fold, "generator")
    ladder = build_ladder(folded, len(widths), minimum=MINIMUM, where="generator_channels")
    norm_classes = 0 if norm == "none" else num_classes
    *inner, final = list(
        zip(
            *(widths, [*widths[1:], 0]),
            *(reversed(ladder.strides), reversed(ladder.left_over)),
            strict=True,
        )
    )
    outputs = channels * math.prod(fold)
    stages: list[nn.Module]
    last: nn.Module
    if architecture == "dcgan":
        stages = [NormAct3d(widths[0], norm, num_classes=norm_classes, negative_slope=0.0)] + [
            ConvNormAct3d(
                before,
                after,
                stride=stride,
                transposed=True,
                norm=norm,
                num_classes=norm_classes,
                negative_slope=0.0,
                left_over=left_over,
            )
            for before, after, stride, left_over in inner
        ]
        kernel = tuple(4 if s == 2 else 3 for s in final[2])
        last = ConvTranspose3d(
            *(widths[-1], outputs, kernel),
            stride=final[2],
            padding=1,
            output_padding=final[3],
        )
    else:
        # Blocks activate on entry, so the activation of the coarsest grid moves to the end.
        stages = [
            ResidualUp3d(
                *(before, after or before),
                stride=stride,
                norm=norm,
                num_classes=norm_classes,
                left_over=left_over,
            )
            for before, after, stride, left_over in [*inner, final]
        ]
        stages.append(NormAct3d(widths[-1], norm, num_classes=norm_classes, negative_slope=0.0))
        last = Conv3d(widths[-1], outputs, 3, padding=1)
    he_normal_(last, negative_slope=1.0)
    generator = Generator(
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        channels=channels,
        latent_dim=latent_dim,
        num_classes=num_classes,
        output=output,
        grid=ladder.coarsest,
        fold=(fold[0], fold[1], fold[2]),
        smoothed=smooth_output,
        width=widths[0],
        stages=nn.ModuleList(stages),
        last=last,
    )
    return weights_channels_last(generator)
