"""One volume through a translator: what it sees, and what comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastgan.data import read_volume, save_volume
from fastgan.data.level import SHARE, levels
from fastgan.errors import ConfigError
from fastgan.runs.whole_volume import Domain, translate_volume

CT = {"modality": "ct", "low": -1000.0, "high": 1000.0, "method": "window"}
MAP = {"modality": "map", "low": 0.0, "high": 1.0, "method": "unit"}


def domain(normalisation: dict, channels: int = 1) -> Domain:
    return Domain((8, 8, 8), (1.0, 1.0, 2.0), channels, normalisation)


@pytest.fixture
def volume(tmp_path: Path):
    array = np.random.default_rng(0).uniform(-900.0, 900.0, (9, 14, 11)).astype(np.float32)
    affine = np.array([[0, 0, -1.0, 4], [0, -1.0, 0, 5], [2.0, 0, 0, 6], [0, 0, 0, 1]])
    return read_volume(save_volume(tmp_path / "a.nii", array, affine))


def test_the_translator_sees_canonical_axes_and_the_unit_range(volume) -> None:
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return x

    made = translate_volume(network, volume, domain(CT), domain(MAP), overlap=0.0, batch=100)
    stored = volume.array[:8, :8, :8] / 1000.0
    assert torch.allclose(seen[0][0, 0], torch.from_numpy(stored), atol=1e-6)
    assert made.source.shape == made.result.shape == (11, 14, 9)
    assert made.array.shape == (9, 14, 11)
    wanted = (volume.array / 1000.0 + 1.0) / 2.0
    assert np.abs(made.array - wanted[::-1, ::-1].transpose(2, 1, 0)).max() < 1e-6
    assert not made.resampled and not made.padded and made.record["modality"] == "ct"


def test_a_mask_is_seen_as_levels_and_comes_back_as_a_mask(tmp_path: Path) -> None:
    mask = np.zeros((12, 12, 12), np.float32)
    mask[4:9, 5:9, 3:8] = 1.0
    mask[4, 5, 3] = 0.25
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    volume = read_volume(save_volume(tmp_path / "mask.nii", mask, affine))
    masks = domain({"modality": "mask", "low": 0.0, "high": 1.0, "method": "unit", "share": SHARE})
    made = translate_volume(lambda x: x, volume, masks, masks)
    assert np.array_equal(made.source, levels(2.0 * mask - 1.0, (1.0, 1.0, 2.0)))
    assert np.abs(made.array - mask).max() < 1e-5


def test_what_leaves_the_range_is_clipped(volume) -> None:
    made = translate_volume(lambda x: 1.04 * torch.sign(x), volume, domain(CT), domain(CT))
    assert set(np.unique(np.abs(made.result))) == {1.0}
    assert made.array.min() == -1000.0 and made.array.max() == 1000.0


def test_rejects_channels(volume) -> None:
    with pytest.raises(ConfigError, match="trained on 2"):
        translate_volume(lambda x: x, volume, domain(CT, 2), domain(CT))
    with pytest.raises(ConfigError, match="must give 1 channel, got 2"):
        translate_volume(lambda x: torch.cat([x, x], 1), volume, domain(CT), domain(CT))


def test_domain_of_a_record() -> None:
    data = {"shape": [8, 8, 8], "spacing": [1.0, 1.0, 2.0], "channels": 1, "normalisation": CT}
    assert Domain.of(data) == domain(CT)
