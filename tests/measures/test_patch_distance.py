"""The distance between unpaired sets: what it must see, what it must not, and a closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.measures import patch_distance

SHAPE = (2, 1, 32, 32, 32)


def smooth(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Unit normal at a voxel, correlated over some five voxels."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    kernel = torch.ones(1, 1, 5, 5, 5)
    field = F.conv3d(F.conv3d(noise, kernel, padding=2), kernel, padding=2)
    return field / field.std()


def brightest(field: Tensor) -> Tensor:
    """1 in the upper quarter, -1 in the rest."""
    return 2.0 * (field > field.flatten().quantile(0.75)).float() - 1.0


def sheets(seed: int) -> Tensor:
    """Bright sheets between two dark sides, as cortex is."""
    return brightest(-smooth(seed).abs())


def lumps(seed: int) -> Tensor:
    """As many bright voxels, in lumps: as if the white matter were shown."""
    return brightest(smooth(seed))


def test_a_shift_of_single_voxels_in_closed_form() -> None:
    x = torch.randn(2, 1, 6, 6, 6, dtype=torch.float64)
    for shift in (0.25, -2.0):
        spread = x.var(unbiased=False) + shift**2 / 4
        expected = abs(shift) / spread.sqrt()
        found = patch_distance(x, x + shift, size=1, scales=1)
        torch.testing.assert_close(found, expected)


def test_unequal_numbers_are_compared_by_rank() -> None:
    x = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1)
    y = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).view(6, 1, 1, 1, 1)
    assert patch_distance(x, y, size=1, scales=1).item() == 0.0
    assert patch_distance(x, 2.0 * y, size=1, scales=1).item() > 0.1


def test_equal_sets_in_any_order() -> None:
    x, y = sheets(0), lumps(1)
    assert patch_distance(x, x).item() == 0.0
    assert patch_distance(x, x.flip(0)).item() < 1e-12
    one = patch_distance(x, y)
    torch.testing.assert_close(patch_distance(x.flip(0), y.flip(0)), one)
    torch.testing.assert_close(patch_distance(y, x), one)


def test_two_samples_of_one_distribution_are_near() -> None:
    real = sheets(0)
    same = patch_distance(sheets(1), real).item()
    assert 0.0 < same < 0.1
    assert patch_distance(-sheets(1), real).item() > 4 * same


def test_grows_with_inversion() -> None:
    """With the share of inverted volumes, as where a translator inverts some patients."""
    real, x = torch.cat([sheets(0), sheets(2)]), torch.cat([sheets(1), sheets(3)])
    found = []
    for inverted in range(5):
        signs = torch.ones(4, 1, 1, 1, 1)
        signs[:inverted] = -1.0
        found.append(patch_distance(signs * x, real).item())
    assert found == sorted(found) and found[1] > 2 * found[0] and found[4] > 10 * found[0]


def test_sees_structure_behind_the_right_histogram() -> None:
    real, x = sheets(0), sheets(1)
    rng = torch.Generator().manual_seed(0)
    shuffled = x.flatten()[torch.randperm(x.numel(), generator=rng)].view(SHAPE)
    for made in (shuffled, lumps(2)):
        torch.testing.assert_close(made.mean(), x.mean(), atol=1e-3, rtol=0.0)
    same = patch_distance(x, real).item()
    assert patch_distance(shuffled, real).item() > 3 * same
    assert patch_distance(lumps(2), real).item() > 3 * same


def test_deterministic_by_seed() -> None:
    x, y = sheets(0), lumps(1)
    state = torch.random.get_rng_state()
    first, again, other = (patch_distance(x, y, seed=s).item() for s in (3, 3, 4))
    assert first == again != other and other == pytest.approx(first, rel=0.2)
    assert torch.equal(state, torch.random.get_rng_state())


def test_extents_numbers_and_patches_may_differ() -> None:
    real, x = sheets(0), sheets(1)
    part = patch_distance(x[:1, :, :24, :, :28], real).item()
    assert part < patch_distance(-x, real).item() / 2
    few = patch_distance(x, real, patches=600)
    assert few.dtype == torch.float64 and 0.0 < few.item() < 0.5


def test_constant_and_not_finite() -> None:
    flat = torch.zeros(1, 2, 10, 10, 10)
    assert patch_distance(flat, flat).item() == 0.0
    for bad in (torch.nan, torch.inf):
        assert patch_distance(torch.full_like(flat, bad), flat).isnan()
    x = flat.requires_grad_()
    assert not patch_distance(x, x).requires_grad


@pytest.mark.parametrize(
    ("shapes", "settings", "message"),
    [
        (((1, 12, 12, 12), (1, 1, 12, 12, 12)), {}, r"must be \[B, C, D, H, W\]"),
        (((1, 1, 12, 12, 12), (1, 2, 12, 12, 12)), {}, "of the same C"),
        (((0, 1, 12, 12, 12), (1, 1, 12, 12, 12)), {}, r"got \(0, 1"),
        (((1, 1, 12, 12, 9), (1, 1, 12, 12, 12)), {}, r"5\^3 do not fit at scale 2 into .* of 9"),
        (((1, 1, 12, 12, 12),) * 2, {"size": 0}, "size must be >= 1, got 0"),
        (((1, 1, 12, 12, 12),) * 2, {"scales": 0}, "scales must be >= 1"),
        (((1, 1, 12, 12, 12),) * 2, {"patches": 1}, "patches must be >= 2"),
        (((1, 1, 12, 12, 12),) * 2, {"projections": 0}, "projections must be >= 1"),
    ],
)
def test_rejects(shapes: Any, settings: dict[str, int], message: str) -> None:
    x, y = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ConfigError, match=message):
        patch_distance(x, y, **settings)
