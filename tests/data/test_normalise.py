"""Ranges by modality, their record, and the way back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fastgan.data import Source, Volume
from fastgan.data.geometry import Orientation
from fastgan.data.normalise import denormalise, intensity_range, normalise, record_like
from fastgan.errors import BadFile, ConfigError


def volume(array: np.ndarray, dtype: str = "int16") -> Volume:
    source = Source(
        "v.nii",
        np.eye(4),
        Orientation((0, 1, 2), (False, False, False)),
        array.shape,
        dtype,
        1.0,
        0.0,
        "",
    )
    return Volume(array.astype(np.float32), np.eye(4), source)


def test_ct_window_and_padding() -> None:
    array = np.array([-3024.0, -1000.0, 0.0, 500.0, 3000.0]).reshape(5, 1, 1)
    record = intensity_range(volume(array), "ct")
    assert (record["low"], record["high"]) == (-1000.0, 1000.0)
    assert record["padding"] == 0.2 and record["clipped"] == 0.4
    expected = [-1.0, -1.0, 0.0, 0.5, 1.0]
    assert np.allclose(normalise(array, record).ravel(), expected, rtol=0.0, atol=1e-6)
    narrow = intensity_range(volume(array, "uint16"), "ct", (-200.0, 200.0))
    assert normalise(array, narrow).ravel().tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]


def test_mr_ignores_background_and_outliers() -> None:
    rng = np.random.default_rng(0)
    array = np.zeros((20, 20, 20))
    array[5:15, 5:15, 5:15] = rng.uniform(200.0, 400.0, (10, 10, 10))
    array[5, 5, 5] = 1e5
    record = intensity_range(volume(array), "mr")
    assert 199.0 < record["low"] < 205.0
    assert 395.0 < record["high"] < 401.0
    assert json.loads(json.dumps(record)) == record


def test_mr_of_two_levels() -> None:
    record = intensity_range(volume(np.eye(3).reshape(3, 3, 1)), "mr")
    assert (record["low"], record["high"]) == (0.0, 1.0)


def test_inverse() -> None:
    array = np.linspace(-900.0, 900.0, 50).reshape(5, 10, 1)
    record = intensity_range(volume(array), "ct")
    back = denormalise(normalise(array, record), record)
    assert np.abs(back - array).max() < 1e-3
    tensor = denormalise(torch.tensor([-1.0, 0.0, 1.0]), record)
    assert tensor.tolist() == [-1000.0, 0.0, 1000.0]


def test_rejects_settings() -> None:
    with pytest.raises(ConfigError, match="window"):
        intensity_range(volume(np.ones((2, 2, 2))), "ct", (5.0, 5.0))
    with pytest.raises(ConfigError, match="pet"):
        intensity_range(volume(np.ones((2, 2, 2))), "pet")


def test_constant_mask_is_fine() -> None:
    record = intensity_range(volume(np.zeros((2, 2, 2))), "mask")
    assert normalise(np.zeros((2, 2, 2)), record).tolist() == np.full((2, 2, 2), -1.0).tolist()


def test_a_new_volume_is_normalised_by_the_rule_of_the_data_set() -> None:
    rng = np.random.default_rng(0)
    bright = volume(rng.uniform(200.0, 4000.0, (8, 8, 8)))
    mr = intensity_range(volume(rng.uniform(0.0, 100.0, (8, 8, 8))), "mr")
    assert record_like(bright, mr) == intensity_range(bright, "mr")
    window = intensity_range(bright, "mr", (0.0, 500.0))
    found = record_like(bright, window)
    assert (found["low"], found["high"], found["modality"]) == (0.0, 500.0, "mr")
    assert found["clipped"] > 0.5
    full = {"modality": "mask", "low": 0.0, "high": 255.0, "method": "full"}
    assert record_like(volume(np.arange(8.0).reshape(2, 2, 2)), full)["high"] == 255.0
    ct = intensity_range(bright, "ct")
    with pytest.raises(BadFile, match="not in HU"):
        record_like(volume(bright.array, "uint16"), ct)
    for modality in ("ct", "mr", "map"):
        with pytest.raises(BadFile, match="constant"):
            record_like(volume(np.ones((2, 2, 2))), {**full, "modality": modality})
