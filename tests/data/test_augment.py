"""Augmentation: nothing at zero strength, known moves where they can be known, repeatable."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fastgan.data.augment import KINDS, Strength, apply, augment, draw
from fastgan.errors import ConfigError

ZERO = Strength(flip=0.0, rotate=0.0, scale=0.0, shift=0.0, contrast=0.0, elastic=0.0)


def volumes(count: int = 2, shape: tuple[int, int, int] = (7, 8, 9)) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.uniform(-1.0, 1.0, (count, 1, *shape)).astype(np.float32))


def test_zero_strength_is_identity() -> None:
    x = volumes()
    out, parameters = augment(x, KINDS, np.random.default_rng(0), ZERO)
    assert torch.equal(out, x)
    assert len(parameters) == 2


def test_deterministic_and_replayable() -> None:
    x = volumes()
    first, parameters = augment(x, KINDS, np.random.default_rng(5))
    second, _ = augment(x, KINDS, np.random.default_rng(5))
    other, _ = augment(x, KINDS, np.random.default_rng(6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    replayed = apply(x, json.loads(json.dumps(parameters)))
    assert torch.equal(replayed, first)
    assert first.shape == x.shape and first.min() >= -1.0 and first.max() <= 1.0


def test_flip_mirrors_left_and_right_exactly() -> None:
    x = volumes()
    out = apply(x, [{"flip": True}, {"flip": False}])
    assert torch.equal(out[0], x[0].flip(1))
    assert torch.equal(out[1], x[1])


@pytest.mark.parametrize(("axis", "dims"), [(0, (2, 3)), (1, (3, 1)), (2, (1, 2))])
def test_rotation_by_a_right_angle_moves_voxels(axis: int, dims: tuple[int, int]) -> None:
    x = volumes(1, (7, 7, 7))
    angles = [0.0, 0.0, 0.0]
    angles[axis] = 90.0
    out = apply(x, [{"rotate": angles}])
    assert torch.allclose(out[0], torch.rot90(x[0], 1, dims), atol=1e-5)


def test_rotation_respects_anisotropic_voxels() -> None:
    x = torch.full((1, 1, 5, 9, 3), -1.0)
    x[0, 0, :, 4, 1] = 1.0
    # A bar of 5 x 2 mm along D, turned about the third axis, is 9 x 1 mm along H.
    out = apply(x, [{"rotate": [0.0, 0.0, 90.0]}], spacing=(2.0, 1.0, 1.0))
    assert torch.allclose(out[0, 0, 2, :, 1], torch.ones(9), atol=1e-5)


def test_scale_zooms_in() -> None:
    x = torch.full((1, 1, 9, 9, 9), -1.0)
    x[0, 0, 3:6, 3:6, 3:6] = 1.0
    assert (apply(x, [{"scale": 2.0}]) > 0).sum() > 3 * (x > 0).sum()
    assert (apply(x, [{"scale": 0.5}]) > 0).sum() < (x > 0).sum()


def test_intensity_keeps_background() -> None:
    x = torch.tensor([-1.0, 0.0, 0.5]).reshape(1, 1, 3, 1, 1)
    out = apply(x, [{"shift": 0.0, "contrast": 1.2}])
    assert torch.allclose(out.flatten(), torch.tensor([-1.0, 0.2, 0.8]))


def test_only_what_is_asked_is_drawn() -> None:
    parameters = draw(("flip", "scale"), 3, np.random.default_rng(0))
    assert [sorted(p) for p in parameters] == [["flip", "scale"]] * 3
    moved = apply(volumes(1), [{"elastic": np.ones((3, 5, 5, 5)).tolist()}])
    assert torch.allclose(moved[0, :, :-1, :-1, :-1], volumes(1)[0, :, 1:, 1:, 1:], atol=1e-5)


def test_rejects_kinds_and_shapes() -> None:
    with pytest.raises(ConfigError, match="shear"):
        draw(("shear",), 1, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="augment"):
        apply(volumes(2), [{}])
    with pytest.raises(ConfigError, match="augment"):
        apply(torch.zeros(1, 4, 4, 4), [{}])
