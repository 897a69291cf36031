"""Conv3d and ConvTranspose3d stand in for torch's own; initial weights keep the scale."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastgan.errors import ConfigError
from fastgan.nn import Conv3d, ConvNormAct3d, ConvTranspose3d, he_normal_

CASES = [
    (Conv3d, nn.Conv3d, {"stride": (2, 1, 2), "padding": (1, 0, 1)}),
    (Conv3d, nn.Conv3d, {"dilation": 2, "groups": 2, "bias": False}),
    (ConvTranspose3d, nn.ConvTranspose3d, {"stride": (2, 1, 2), "padding": 1}),
    (ConvTranspose3d, nn.ConvTranspose3d, {"stride": 2, "output_padding": (1, 0, 1)}),
]


@pytest.mark.parametrize(("ours", "stock", "settings"), CASES)
def test_forward_matches_reference(ours: type, stock: type, settings: dict) -> None:
    module, expected = ours(4, 6, 3, **settings).double(), stock(4, 6, 3, **settings).double()
    expected.load_state_dict(module.state_dict())
    x = torch.randn(2, 4, 6, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x), expected(x))
    assert isinstance(module, stock)


def test_rejects_other_padding() -> None:
    with pytest.raises(ConfigError, match="padding"):
        Conv3d(1, 1, 3, padding="same")
    with pytest.raises(ConfigError, match="padding"):
        Conv3d(1, 1, 3, padding=1, padding_mode="reflect")


def test_rejects_grouped_transpose() -> None:
    with pytest.raises(ConfigError, match="groups"):
        ConvTranspose3d(4, 4, 3, groups=2)


def test_output_size_of_a_transposed_convolution() -> None:
    """As torch's: any size that the stride would bring down to the input's."""
    ours, x = ConvTranspose3d(4, 3, 4, stride=2, padding=1), torch.randn(1, 4, 3, 2, 5)
    stock = torch.nn.ConvTranspose3d(4, 3, 4, stride=2, padding=1)
    stock.load_state_dict(ours.state_dict())
    for size in ([6, 4, 10], [7, 4, 11], [7, 5, 11]):
        torch.testing.assert_close(ours(x, size), stock(x, size))
    assert torch.equal(ours(x, [6, 4, 10]), ours(x))
    for size in ([8, 4, 10], [5, 4, 10]):
        with pytest.raises(ConfigError, match=r"is not \[6, 4, 10\] or up to stride - 1"):
            ours(x, size)
    with pytest.raises(ConfigError, match="must be D, H, W"):
        ours(x, [6, 4])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_he_normal_keeps_the_second_moment(transposed: bool, slope: float) -> None:
    kind = ConvTranspose3d if transposed else Conv3d
    conv = kind(32, 64, 4, stride=2, padding=1, bias=False)
    he_normal_(conv, slope)
    x = torch.nn.functional.leaky_relu(torch.randn(4, 32, 12, 12, 12), slope)
    y = conv(x)[:, :, 1:-1, 1:-1, 1:-1]
    # He: the pre-activation has twice the mean square of the activated input, over 1 + slope^2.
    expected = 2 / (1 + slope**2) * x.square().mean()
    assert y.square().mean().item() == pytest.approx(expected.item(), rel=0.1)


def test_he_normal_rejects_other_modules() -> None:
    with pytest.raises(TypeError, match="Embedding"):
        he_normal_(nn.Embedding(2, 2), 0.0)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (2, 1, 2)])
def test_stage_divides_and_multiplies_exactly(stride: tuple[int, int, int]) -> None:
    shape = (8, 6, 4)
    x = torch.randn(2, 4, *shape).contiguous(memory_format=torch.channels_last_3d)
    down = ConvNormAct3d(4, 8, stride=stride)(x)
    up = ConvNormAct3d(4, 8, stride=stride, transposed=True)(x)
    assert tuple(down.shape[2:]) == tuple(n // s for n, s in zip(shape, stride, strict=True))
    assert tuple(up.shape[2:]) == tuple(n * s for n, s in zip(shape, stride, strict=True))
    for y in (down, up):
        assert y.is_contiguous(memory_format=torch.channels_last_3d)
