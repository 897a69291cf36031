"""Convolution, then normalisation and LeakyReLU; strided down or up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastgan.nn.chain import Link, run_chain
from fastgan.nn.conv import Conv3d, ConvTranspose3d
from fastgan.nn.initialise import he_normal_
from fastgan.nn.norm_act import NormAct3d

__all__ = ["ConvNormAct3d"]


class ConvNormAct3d(Link):
    """norm_act(conv(x)), the stage of a DCGAN ladder.

    An axis of stride 2 has kernel 4 (every voxel is touched equally often, so no checkerboard),
    one of stride 1 kernel 3 or 1; padding makes the output exactly the input divided (rounded
    down) or multiplied by the stride. The convolution has no bias: the one behind it does.

    Args:
        in_channels, out_channels: channels before and after.
        stride: three strides, 1 or 2.
        transposed: enlarge by the stride instead of reducing.
        norm, num_classes, negative_slope: of the NormAct3d.
        kernel: 3, or 1 to see no neighbours along axes of stride 1.
        left_over: of `transposed`, voxels each axis is longer than stride times the input: the
            inverse of a division that rounded down; each below its stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: Sequence[int] = (1, 1, 1),
        transposed: bool = False,
        norm: str = "instance",
        num_classes: int = 0,
        negative_slope: float = 0.2,
        kernel: int = 3,
        left_over: Sequence[int] = (0, 0, 0),
    ) -> None:
        super().__init__()
        kind = ConvTranspose3d if transposed else Conv3d
        settings = {"output_padding": tuple(left_over)} if transposed else {}
        sizes = tuple(4 if s == 2 else kernel for s in stride)
        padding = tuple(1 if s == 2 else kernel // 2 for s in stride)
        self.conv: nn.Module = kind(
            *(in_channels, out_channels, sizes),
            stride=tuple(stride),
            padding=padding,
            bias=False,
            **settings,
        )
        he_normal_(self.conv, negative_slope)
        self.norm_act = NormAct3d(
            out_channels, norm, num_classes=num_classes, negative_slope=negative_slope
        )

    def forward(
        self, x: Tensor, labels: Tensor | None = None, size: Sequence[int] | None = None
    ) -> Tensor:
        """x: [B, C, D, H, W], labels: [B] or None -> [B, C', D', H', W'].

        `size` is D', H', W' where a transposed convolution is to give other than its own.
        """
        if size is not None:
            y: Tensor = self.norm_act(self.conv(x, list(size)), labels)
            return y
        return run_chain(self.links(), x, labels)

    def links(self) -> tuple[nn.Module, ...]:
        """Convolution, then norm + activation: in a chain the latter joins the next convolution."""
        return self.conv, self.norm_act
