"""Differentiable augmentation: what each transform does, and that it may be derived twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.gans import Augment
from fastgan.gans.augment import AUGMENTATIONS


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_none_is_the_identity() -> None:
    x = torch.randn(2, 1, 4, 4, 4)
    assert Augment()(x, rng()) is x


def test_flip_mirrors_a_quarter_of_each_axis() -> None:
    x = torch.randn(400, 2, 3, 4, 5)
    y = Augment(["flip"])(x, rng())
    mirrored = torch.zeros(8)
    for index in range(8):
        axes = [axis + 2 for axis in range(3) if index >> axis & 1]
        same = torch.isclose(y, x.flip(axes), atol=1e-6).flatten(1).all(1)
        mirrored[index] = same.float().mean()
    assert mirrored.sum().item() == pytest.approx(1.0)
    for axis in range(3):
        share = sum(mirrored[i] for i in range(8) if i >> axis & 1)
        assert share == pytest.approx(0.25, abs=0.07)


def test_shift_moves_whole_voxels_and_brings_in_background() -> None:
    x = torch.rand(64, 1, 16, 8, 4) * 0.5
    y = Augment(["shift"])(x, rng())
    seen = set()
    for before, after in zip(x[:, 0], y[:, 0], strict=True):
        matches = []
        for d in range(-2, 3):
            for h in range(-1, 2):
                moved = torch.full_like(before, -1.0)
                to = np.s_[max(-d, 0) : 16 - max(d, 0), max(-h, 0) : 8 - max(h, 0)]
                source = np.s_[max(d, 0) : 16 - max(-d, 0), max(h, 0) : 8 - max(-h, 0)]
                moved[to] = before[source]
                if torch.allclose(moved, after, atol=1e-6):
                    matches.append((d, h))
        assert len(matches) == 1
        seen.update(matches)
    assert {d for d, _ in seen} == {-2, -1, 0, 1, 2}
    assert {h for _, h in seen} == {-1, 0, 1}


@pytest.mark.parametrize("names", [["flip"], ["intensity"], ["shift", "intensity"], AUGMENTATIONS])
def test_what_was_drawn_before_moves_the_same(names) -> None:
    augment, x = Augment(names), torch.randn(3, 1, 4, 5, 6)
    moves = augment.draw(rng(3), x.shape)
    assert torch.equal(augment(x, moves), augment(x, rng(3)))
    assert all(m.dtype == torch.float64 for m in augment.draw(rng(3), x.shape, torch.float64))


def test_intensity_is_affine_per_volume() -> None:
    x = torch.randn(16, 2, 3, 3, 3)
    y = Augment(["intensity"])(x, rng())
    for before, after in zip(x.flatten(1), y.flatten(1), strict=True):
        slope = ((after - after.mean()) / (before - before.mean())).median()
        assert 0.8 <= slope <= 1.2
        torch.testing.assert_close(after, slope * before + (after - slope * before).mean())
        assert (after - slope * before).abs().max() <= 0.2 + 1e-4


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradgradcheck(name: str) -> None:
    x = torch.randn(2, 1, 8, 2, 2, dtype=torch.float64, requires_grad=True)

    def cubed(x: torch.Tensor) -> torch.Tensor:
        return Augment([name])(x, rng()).pow(3)

    assert torch.autograd.gradcheck(cubed, x)
    assert torch.autograd.gradgradcheck(cubed, x)


def test_layouts() -> None:
    last = torch.channels_last_3d
    x = torch.randn(2, 3, 8, 8, 8)
    ours = Augment(AUGMENTATIONS)(x, rng())
    assert ours.is_contiguous(memory_format=last)
    torch.testing.assert_close(
        Augment(AUGMENTATIONS)(x.contiguous(memory_format=last), rng()), ours
    )


def test_deterministic() -> None:
    x = torch.randn(4, 1, 8, 8, 8)
    augment = Augment(AUGMENTATIONS)
    assert torch.equal(augment(x, rng(1)), augment(x, rng(1)))
    assert not torch.equal(augment(x, rng(1)), augment(x, rng(2)))


def test_rejects_unknown_name() -> None:
    with pytest.raises(ConfigError, match="augment 'flips' is unknown; did you mean 'flip'"):
        Augment(["flips"])
