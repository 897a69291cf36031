"""Translators: shapes, windows, layouts, what a kernel of 1 rules out, and their gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.models import Translator, build_translator
from fastgan.models.generator import HEADROOM
from fastgan.models.translator import TRANSLATORS
from fastgan.nn import NORMS


def small(**settings: Any) -> Translator:
    defaults: dict[str, Any] = {"shape": (8, 8, 16), "translator_channels": (4, 8), "blocks": 1}
    defaults |= {"architecture": "resnet", "norm": "instance"}
    return build_translator(**(defaults | settings))


@pytest.mark.parametrize("architecture", TRANSLATORS)
@pytest.mark.parametrize("widths", [(4,), (4, 6), (4, 6, 8)], ids=str)
@pytest.mark.parametrize("fold", [(1, 1, 1), (2, 2, 1)], ids=str)
def test_shapes(architecture: str, widths: tuple[int, ...], fold: tuple[int, int, int]) -> None:
    translator = small(architecture=architecture, translator_channels=widths, fold=fold, channels=2)
    halved = 2 ** (len(widths) - 1)
    assert translator.stride == tuple(f * halved for f in fold)
    # Any shape the stride divides, not only the training shape.
    for factors in ((1, 1, 2), (3, 2, 5)):
        size = [f * s for f, s in zip(factors, translator.stride, strict=True)]
        y = translator(torch.rand(2, 2, *size))
        assert y.shape == (2, 2, *size) and y.dtype == torch.float32
        assert y.abs().max() <= HEADROOM


@pytest.mark.parametrize("architecture", TRANSLATORS)
@pytest.mark.parametrize("norm", NORMS)
def test_layouts(architecture: str, norm: str) -> None:
    translator = small(architecture=architecture, norm=norm, fold=(2, 2, 2))
    x = torch.randn(2, 1, 8, 8, 16)
    y = translator(x)
    torch.testing.assert_close(translator(x.contiguous(memory_format=torch.channels_last_3d)), y)
    strided = x.repeat(1, 1, 1, 1, 2)[..., ::2]
    torch.testing.assert_close(translator(strided), translator(strided.contiguous()))
    assert y.permute(0, 2, 3, 4, 1).is_contiguous()


def field(translator: Translator, centre: int) -> list[int]:
    """Voxels along the last axis that one output voxel depends on."""
    x = torch.randn(1, 1, 8, 8, 48, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(translator.double()(x)[0, 0, 4, 4, centre], x)
    return gradient[0, 0].abs().amax((0, 1)).nonzero().flatten().tolist()


def test_a_kernel_of_one_stays_within_a_block() -> None:
    alone = small(translator_channels=(6,), kernel=1, norm="none", fold=(2, 2, 2))
    assert field(alone, 25) == [24, 25]
    assert field(small(translator_channels=(6,), kernel=1, norm="none"), 25) == [25]
    wider = field(small(translator_channels=(6,), norm="none", fold=(2, 2, 2)), 25)
    # Stem, two convolutions of the block and head: four blocks of two voxels to each side.
    assert wider == list(range(16, 34))


def test_windows_agree_with_the_whole_volume_away_from_their_faces() -> None:
    translator = small(norm="none", blocks=0).double()
    x = torch.randn(1, 1, 8, 8, 48, dtype=torch.float64)
    whole, window = translator(x), translator(x[..., 8:40])
    torch.testing.assert_close(window[..., 8:-8], whole[..., 16:32])


def test_unet_hands_fine_detail_over() -> None:
    translator = small(architecture="unet", norm="none")
    plain = small(norm="none")
    with torch.no_grad():
        for module in (translator, plain):
            # Nothing comes back from the coarse grid.
            for parameter in module.ups.parameters():
                parameter.zero_()
    x = torch.randn(1, 1, 8, 8, 16)
    assert plain(x).std() < 1e-6 < 1e-2 < translator(x).std()


@pytest.mark.parametrize("architecture", TRANSLATORS)
def test_gradients_reach_every_parameter(architecture: str) -> None:
    translator = small(architecture=architecture, fold=(2, 2, 2), blocks=2)
    wide = copy.deepcopy(translator).double()
    x, cotangent = torch.randn(2, 2, 1, 8, 8, 16).unbind()
    (translator(x) * cotangent).sum().backward()
    (wide(x.double()) * cotangent.double()).sum().backward()
    for (name, narrow), parameter in zip(
        translator.named_parameters(), wide.parameters(), strict=True
    ):
        assert narrow.grad is not None and parameter.grad is not None, name
        # A bias in front of a norm would have none; there is none here.
        assert parameter.grad.norm() > 0, name
        error = (narrow.grad.double() - parameter.grad).norm()
        assert error <= 1e-3 * (1 + parameter.grad.norm()), name


def test_bfloat16_output_is_not_rounded() -> None:
    translator, x = small(), torch.randn(1, 1, 8, 8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = translator(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, translator(x), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "unett"}, "did you mean 'unet'"),
        ({"norm": "batch"}, "norm 'batch' is unknown"),
        ({"translator_channels": ()}, "translator_channels: at least one"),
        ({"translator_channels": (4, 0)}, "translator_channels: at least one"),
        ({"blocks": -1}, "translator_blocks: must be >= 0, got -1"),
        ({"kernel": 5}, "translator_kernel: must be 1 or 3, got 5"),
        ({"shape": (8, 3, 16), "translator_channels": (4, 4, 4)}, "axis 1 has 3 blocks"),
        ({"shape": (8, 7, 16), "fold": (2, 2, 2)}, "axis 1 of shape 8x7x16 is not divisible"),
    ],
)
def test_rejects_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**settings)


def test_says_what_would_do() -> None:
    with pytest.raises(ConfigError, match="at most 2 entries, or 4 blocks"):
        small(shape=(8, 3, 16), translator_channels=(4, 4, 4))
    assert small(shape=(8, 3, 16), translator_channels=(4, 4)).stride == (2, 2, 2)
    assert small(shape=(8, 4, 16), translator_channels=(4, 4, 4)).stride == (4, 4, 4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 8, 8, 16), r"x must be \[B, 1, D, H, W\], got \[1, 2, 8, 8, 16\]"),
        ((1, 8, 8, 16), r"x must be"),
        ((1, 1, 8, 7, 16), r"multiples of its blocks 2 x 2 x 2 .* got \[8, 7, 16\]"),
        ((1, 1, 8, 2, 16), r"at least its stride 4 x 4 x 4, got \[8, 2, 16\]"),
        ((1, 1, 8, 0, 16), r"at least its stride"),
    ],
)
def test_rejects_inputs(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(fold=(2, 2, 2))(torch.zeros(shape))
