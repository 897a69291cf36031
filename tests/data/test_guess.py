"""What values say of themselves: HU, intensities, maps, masks and names of regions."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from fastgan.data import read_volume
from fastgan.data.guess import doubts, guess_modality, refuse_labels
from fastgan.errors import BadFile

rng = np.random.default_rng(0)
NOISE = rng.standard_normal((32, 32, 32))
BODY = np.zeros((32, 32, 32), bool)
BODY[6:26, 6:26, 6:26] = True
CHEST = np.where(BODY, 40.0 + 30.0 * NOISE, -1000.0 + 5.0 * NOISE)
PADDED = np.where(np.arange(32)[:, None, None] < 4, -3024.0, CHEST)
REGIONS = np.kron(rng.integers(0, 150, (8, 8, 8)), np.ones((4, 4, 4)))

KINDS: list[tuple[str, np.ndarray, str, str]] = [
    ("CT", CHEST, "i2", "ct"),
    ("CT resampled", CHEST, "f4", "ct"),
    ("CT padded", PADDED, "i2", "ct"),
    ("CT without air", 40.0 + 60.0 * NOISE, "i2", "ct"),
    ("cope of FSL", 1500.0 * NOISE * BODY, "f4", "map"),
    ("cope without mask", 1500.0 * NOISE, "f4", "map"),
    ("z-map", 3.0 * NOISE * BODY, "f4", "map"),
    ("fractional anisotropy", np.clip(np.abs(NOISE) * 0.3, 0, 1) * BODY, "f4", "map"),
    ("MR", np.abs(NOISE) * 300.0, "i2", "mr"),
    ("MR that rings", np.abs(NOISE) * 300.0 - 10.0, "f4", "mr"),
    ("MR of bytes", np.clip(100 + 20 * NOISE, 1, 255) * BODY, "u1", "mr"),
    ("labels", REGIONS, "i2", "labels"),
    ("labels stored as float", REGIONS, "f4", "labels"),
    ("few labels", rng.integers(0, 5, (32, 32, 32)), "u1", "labels"),
    ("mask", BODY, "u1", "mask"),
    ("mask of 255", BODY * 255, "u1", "mask"),
]


def written(path: Path, array: np.ndarray, dtype: str, intent: str | None = None) -> Path:
    values = np.rint(array) if dtype[0] in "iu" else array
    image = nibabel.Nifti1Image(values.astype(dtype), np.eye(4))
    if intent is not None:
        image.header.set_intent(intent, (1,) if intent != "label" else ())
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(("case", "array", "dtype", "kind"), KINDS, ids=[k[0] for k in KINDS])
def test_guess(case: str, array: np.ndarray, dtype: str, kind: str, tmp_path: Path) -> None:
    assert guess_modality(read_volume(written(tmp_path / "a.nii", array, dtype))) == kind


def test_what_the_header_says_counts(tmp_path: Path) -> None:
    labels = written(tmp_path / "a.nii", np.abs(NOISE) * 300, "i2", "label")
    assert guess_modality(read_volume(labels)) == "labels"
    chi = written(tmp_path / "b.nii", np.abs(NOISE) * 300, "f4", "t test")
    assert guess_modality(read_volume(chi)) == "map"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mni_gm_tal", "map"),
        ("sub-01_label-WM_probseg", "map"),
        ("head_csf", "map"),
        ("T1_fast_pve_0", "map"),
        ("mni_t1_tal", "mr"),
        ("sub-wmh_T1w", "mr"),
    ],
)
def test_the_probability_of_a_tissue_stored_in_bytes(name: str, kind: str, tmp_path: Path) -> None:
    smooth = np.clip(128 + 60 * NOISE, 0, 255) * BODY
    volume = read_volume(written(tmp_path / f"{name}.nii", smooth, "u1"))
    assert guess_modality(volume) == kind
    assert bool(doubts(volume, "mr")) == (kind == "map")


def test_doubts_and_refusals(tmp_path: Path) -> None:
    chest = read_volume(written(tmp_path / "ct.nii", CHEST, "i2"))
    assert doubts(chest, "ct") == []
    assert doubts(chest, "mr") == ["looks like CT (air near -1000 HU) and is read as mr"]
    atlas = read_volume(written(tmp_path / "atlas.nii", REGIONS, "i2"))
    refuse_labels(atlas, "map")
    with pytest.raises(BadFile, match=r"atlas\.nii: a label map .*leave it out.*data\.window"):
        refuse_labels(atlas, "mr")
    flat = read_volume(written(tmp_path / "flat.nii", np.ones((4, 4, 4)), "i2"))
    assert doubts(flat, "ct") == ["constant, every voxel is 1"]
