"""Residual blocks and the resampling in them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool3d, interpolate

from fastgan.errors import ConfigError
from fastgan.nn import ResidualDown3d, ResidualUp3d, average_pool, channels_last, upsample

STRIDES = [(1, 1, 1), (2, 2, 2), (2, 1, 2), (1, 3, 1)]


@pytest.mark.parametrize("strides", STRIDES)
def test_resampling_matches_reference(strides: tuple[int, int, int]) -> None:
    x = torch.randn(2, 3, 4, 6, 2, dtype=torch.float64)
    scale = tuple(float(s) for s in strides)
    for mode, extra in (("nearest", {}), ("trilinear", {"align_corners": False})):
        expected = interpolate(x, scale_factor=scale, mode=mode, **extra)
        torch.testing.assert_close(upsample(x, strides, mode), expected)
    torch.testing.assert_close(average_pool(x, (2, 3, 1)), avg_pool3d(x, (2, 3, 1)))


def test_resampling_gradgradcheck() -> None:
    x = torch.randn(1, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    for f in (
        lambda t: upsample(t, (2, 1, 2)).pow(3),
        lambda t: average_pool(t, (2, 2, 1)).pow(3),
    ):
        assert torch.autograd.gradcheck(f, x)
        assert torch.autograd.gradgradcheck(f, x)


@pytest.mark.parametrize("mode", ["nearest", "trilinear"])
def test_layouts(mode: str) -> None:
    last = torch.channels_last_3d
    x = torch.randn(2, 8, 4, 4, 4).contiguous(memory_format=last).requires_grad_()
    up = ResidualUp3d(8, 4, stride=(2, 1, 2), mode=mode)
    for y in (up(x), ResidualDown3d(8, 8)(x)):
        (g,) = torch.autograd.grad(y, x, torch.randn_like(y))
        assert y.is_contiguous(memory_format=last)
        assert g.is_contiguous(memory_format=last)


def test_one_channel_becomes_channels_last() -> None:
    y = channels_last(torch.randn(2, 1, 3, 4, 5))
    assert y.stride() == (60, 1, 20, 5, 1)


def test_blocks_are_the_skip_plus_the_branch() -> None:
    x = torch.randn(2, 4, 4, 4, 4)
    up, down = ResidualUp3d(4, 4), ResidualDown3d(4, 4)
    for block, skip in ((up, upsample(x, (2, 2, 2))), (down, average_pool(x, (2, 2, 2)))):
        torch.nn.init.zeros_(block.conv_2.weight)
        torch.testing.assert_close(block(x), skip)


def test_rejects_unknown_mode() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nearest'"):
        upsample(torch.randn(1, 1, 2, 2, 2), (2, 2, 2), "neares")
