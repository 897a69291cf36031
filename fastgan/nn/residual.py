"""Residual blocks that change the grid: pre-activation, as in the WGAN-GP and SNGAN networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastgan.nn.chain import run_chain
from fastgan.nn.conv import Conv3d
from fastgan.nn.initialise import he_normal_
from fastgan.nn.norm_act import NormAct3d
from fastgan.nn.resample import average_pool, upsample

__all__ = ["ResidualDown3d", "ResidualUp3d"]


class ResidualUp3d(nn.Module):
    """x -> up(skip(x)) + conv(norm_act(conv(up(norm_act(x))))).

    The 1x1x1 convolution of the skip commutes with the enlargement and runs before it.

    Args:
        in_channels, out_channels: channels before and after.
        stride: factor of each axis.
        mode: nearest | trilinear.
        norm, num_classes, negative_slope: of the NormAct3d.
        left_over: voxels each axis is longer than its stride times the input.

    Source: Gulrajani et al. 2017, appendix F; Miyato et al. 2018, appendix B.4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: Sequence[int] = (2, 2, 2),
        mode: str = "nearest",
        norm: str = "instance",
        num_classes: int = 0,
        negative_slope: float = 0.0,
        left_over: Sequence[int] = (0, 0, 0),
    ) -> None:
        super().__init__()
        self.stride, self.mode, self.left_over = tuple(stride), mode, tuple(left_over)
        self.norm_act_1 = NormAct3d(
            in_channels, norm, num_classes=num_classes, negative_slope=negative_slope
        )
        self.conv_1 = _conv(in_channels, out_channels, 3, negative_slope)
        self.norm_act_2 = NormAct3d(
            out_channels, norm, num_classes=num_classes, negative_slope=negative_slope
        )
        self.conv_2 = _conv(out_channels, out_channels, 3, negative_slope=1.0)
        self.skip = _skip(in_channels, out_channels)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x: [B, C, D, H, W], labels: [B] or None -> [B, C', D s0 + l0, H s1 + l1, W s2 + l2]."""
        grid = (self.stride, self.mode, self.left_over)
        y: Tensor = upsample(self.norm_act_1(x, labels), *grid)
        y = run_chain((self.conv_1, self.norm_act_2, self.conv_2), y, labels)
        short: Tensor = self.skip(x)
        return y + upsample(short, *grid)


class ResidualDown3d(nn.Module):
    """x -> skip(pool(x)) + pool(conv(norm_act(conv(norm_act(x))))), pooled by averages.

    Args:
        in_channels, out_channels: channels before and after.
        stride: factor of each axis; what it leaves over joins the last block. (1, 1, 1) keeps the
            grid.
        norm, negative_slope: of the NormAct3d.
        kernel: 3, or 1 to mix channels alone.

    Source: Gulrajani et al. 2017, appendix F; Miyato et al. 2018, appendix B.4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: Sequence[int] = (2, 2, 2),
        norm: str = "none",
        negative_slope: float = 0.2,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.norm_act_1 = NormAct3d(in_channels, norm, negative_slope=negative_slope)
        self.conv_1 = _conv(in_channels, out_channels, kernel, negative_slope)
        self.norm_act_2 = NormAct3d(out_channels, norm, negative_slope=negative_slope)
        self.conv_2 = _conv(out_channels, out_channels, kernel, negative_slope=1.0)
        self.skip = _skip(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, D, H, W] -> [B, C', D // s0, H // s1, W // s2]."""
        y = run_chain((self.norm_act_1, self.conv_1, self.norm_act_2, self.conv_2), x)
        short: Tensor = self.skip(average_pool(x, self.stride))
        return average_pool(y, self.stride) + short


def _conv(in_channels: int, out_channels: int, kernel: int, negative_slope: float) -> Conv3d:
    conv = Conv3d(in_channels, out_channels, kernel, padding=kernel // 2)
    he_normal_(conv, negative_slope)
    return conv


def _skip(in_channels: int, out_channels: int) -> nn.Module:
    if in_channels == out_channels:
        return nn.Identity()
    return _conv(in_channels, out_channels, 1, negative_slope=1.0)
