"""Geometry of what is read, the exact way back, and what is written."""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fastgan.data import read_volume, restore, save_volume
from fastgan.data.content import content_hash
from fastgan.data.geometry import from_quaternion, quaternion
from fastgan.data.volume import read_spacing
from fastgan.errors import BadFile, ConfigError, NumericsError, ResourceLimit

Craft = Callable[..., bytes]
Put = Callable[..., Path]
ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(["LR", "PA", "IS"])
    for codes in itertools.product(*axes)
]


def oriented(codes: str, sizes: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, code in enumerate(codes):
        world = next(w for w, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[world, axis] = sizes[axis] * (1.0 if code in "RAS" else -1.0)
    affine[:3, 3] = (7.0, -11.0, 13.0)
    return affine


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_round_trip_is_bit_exact(codes: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((3, 4, 5)).astype(np.float32)
    affine = oriented(codes)
    save_volume(tmp_path / "a.nii.gz", stored, affine)
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.source.orientation.codes == codes
    assert nibabel.aff2axcodes(affine) == tuple(codes)
    assert np.array_equal(restore(volume, volume.array), stored)
    assert np.array_equal(volume.source.affine, affine)
    reference = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz"))
    assert np.array_equal(volume.array, np.asarray(reference.dataobj))
    assert np.allclose(volume.affine, reference.affine)
    assert read_spacing(tmp_path / "a.nii.gz") == volume.spacing
    assert np.all(np.diag(volume.affine)[:3] > 0)


def test_oblique_volume_matches_nibabel(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = rotation * rng.uniform(0.5, 3.0, 3)
        affine[:3, 3] = rng.uniform(-100.0, 100.0, 3)
        array = rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
        path = save_volume(tmp_path / "a.nii", array, affine, overwrite=True)
        loaded = nibabel.load(path)
        assert loaded.get_data_dtype() == np.int16
        assert np.allclose(loaded.get_sform(), affine, atol=1e-4)
        assert np.allclose(loaded.get_qform(), affine, atol=1e-3)
        volume = read_volume(path)
        reference = nibabel.as_closest_canonical(loaded)
        assert np.array_equal(volume.array, np.asarray(reference.dataobj))
        assert volume.source.warnings == ()


def test_quaternion_round_trip() -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = rotation
        bcd, qfac = quaternion(affine)
        assert np.allclose(from_quaternion(bcd, np.ones(3), qfac), affine, atol=1e-6)


def test_reads_what_nibabel_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        for dtype in ("u1", "i2", ">i2", "i4", "f4", ">f4", "f8", "u2"):
            array = rng.integers(0, 200, (3, 4, 5)).astype(dtype)
            nibabel.save(kind(array, oriented("LPS")), tmp_path / "a.nii.gz")
            volume = read_volume(tmp_path / "a.nii.gz")
            assert np.array_equal(restore(volume, volume.array), array.astype(np.float32))
            assert np.allclose(volume.source.affine, oriented("LPS"))


def test_slope_and_units(craft: Craft, put: Put) -> None:
    stored = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    scaled = read_volume(put(craft(scl_slope=2.0, scl_inter=-1024.0)))
    assert np.array_equal(scaled.array, stored * 2.0 - 1024.0)
    assert (scaled.source.slope, scaled.source.intercept) == (2.0, -1024.0)
    unscaled = read_volume(put(craft(scl_slope=0.0, scl_inter=55.0)))
    assert np.array_equal(unscaled.array, stored)
    metres = craft(
        xyzt_units=1, pixdim1=0.001, pixdim2=0.002, pixdim3=0.003, qform_code=0, sform_code=0
    )
    assert np.allclose(read_volume(put(metres)).spacing, (1.0, 2.0, 3.0))


def test_trailing_singletons_and_warnings(craft: Craft, put: Put) -> None:
    four = read_volume(put(craft(dim0=4)))
    assert four.array.shape == (4, 5, 6)
    assert restore(four, four.array).shape == (4, 5, 6, 1)
    neither = read_volume(put(craft(qform_code=0, sform_code=0)))
    assert neither.spacing == (1.0, 2.0, 3.0)
    assert "neither" in neither.source.warnings[0]
    differ = read_volume(put(craft(sform_code=4, qoffset_x=40.0)))
    assert "40" not in str(differ.affine)
    assert "apart" in differ.source.warnings[0]
    by_quaternion = read_volume(put(craft(sform_code=0, pixdim0=-1.0)))
    assert by_quaternion.source.orientation.codes == "RAI"


def test_provenance_and_header(tmp_path: Path) -> None:
    facts = {"checkpoint": "ab12", "seed": 7, "text": "éü"}
    path = save_volume(
        tmp_path / "a.nii.gz",
        np.zeros((1, 4, 4, 4)),
        np.eye(4),
        description="synthetic fastgan ab12",
        provenance=facts,
    )
    header = nibabel.load(path).header
    assert header["descrip"].item() == b"synthetic fastgan ab12"
    assert header.get_xyzt_units()[0] == "mm"
    assert header["qform_code"] == 1 and header["sform_code"] == 1
    extension = header.extensions[0]
    assert extension.get_code() == 6
    volume = read_volume(path)
    code, payload = volume.source.extensions[0]
    content = content_hash(volume.array, volume.affine)
    assert code == 6 and json.loads(payload.rstrip(b"\0")) == facts | {"content": content}
    vector = save_volume(tmp_path / "v.nii", np.zeros((2, 3, 4, 5)), np.eye(4))
    assert nibabel.load(vector).shape == (3, 4, 5, 1, 2)
    assert struct.unpack_from("<f", vector.read_bytes(), 108)[0] == 352.0


GEOMETRY = ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d")
GEOMETRY += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units")


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (0, 0), (1, 0), (0, 4), (2, 1)])
def test_placement_is_written_bit_for_bit(
    kind: type, qform: int, sform: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3] = np.hstack([rotation * (0.7, 1.3, 2.9), rng.uniform(-90.0, 90.0, (3, 1))])
    if sform == 4:
        affine[:3] *= 0.001  # metres
    image = kind(rng.integers(0, 99, (5, 4, 3, 1)).astype(np.int16), affine)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    image.header.set_xyzt_units("meter" if sform == 4 else "mm", "sec")
    image.header["pixdim"][4] = 2.5
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    out = restore(volume, volume.array).reshape(5, 4, 3)
    path = save_volume(
        tmp_path / "b.nii.gz",
        out,
        volume.source.affine,
        placement=volume.source.placement,
        provenance={"a": 1},
    )
    before, after = nibabel.load(tmp_path / "a.nii.gz"), nibabel.load(path)
    assert type(after) is kind and after.shape == (5, 4, 3, 1)
    for field in GEOMETRY:
        assert before.header[field].tobytes() == after.header[field].tobytes(), field
    assert np.array_equal(before.affine, after.affine)
    assert np.array_equal(np.asarray(before.dataobj), np.asarray(after.dataobj))
    again = read_volume(path)
    assert np.array_equal(again.affine, volume.affine) and again.array.shape == volume.array.shape
    assert again.source.placement == volume.source.placement
    assert again.source.extensions[0][0] == 6


def test_never_overwrites_silently(tmp_path: Path) -> None:
    path = save_volume(tmp_path / "a.nii", np.zeros((2, 2, 2)), np.eye(4))
    with pytest.raises(BadFile, match="exists"):
        save_volume(path, np.ones((2, 2, 2)), np.eye(4))
    assert read_volume(path).array.sum() == 0.0
    save_volume(path, np.ones((2, 2, 2)), np.eye(4), overwrite=True)
    assert read_volume(path).array.sum() == 8.0
    assert os.listdir(tmp_path) == ["a.nii"]


def test_rejects_what_cannot_be_written(tmp_path: Path) -> None:
    good = np.zeros((2, 2, 2))
    for array, affine, error in (
        (np.full((2, 2, 2), np.nan), np.eye(4), NumericsError),
        (np.zeros((2, 2)), np.eye(4), ConfigError),
        (np.zeros((2, 2, 0)), np.eye(4), ConfigError),
        (good.astype(complex), np.eye(4), ConfigError),
        (good, np.zeros((4, 4)), ConfigError),
        (good, np.full((4, 4), np.nan), ConfigError),
        (good, np.eye(3), ConfigError),
    ):
        with pytest.raises(error):
            save_volume(tmp_path / "a.nii", array, affine)
    with pytest.raises(ConfigError, match="name"):
        save_volume(tmp_path / "a.mha", good, np.eye(4))
    with pytest.raises(ConfigError, match="description"):
        save_volume(tmp_path / "a.nii", good, np.eye(4), description="x" * 80)
    with pytest.raises(BadFile, match="cannot write"):
        save_volume(tmp_path / "none" / "a.nii", good, np.eye(4))
    assert os.listdir(tmp_path) == []


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceLimit, match="No space"):
        save_volume(tmp_path / "a.nii", np.zeros((2, 2, 2)), np.eye(4))
    assert os.listdir(tmp_path) == []


def test_restore_rejects_another_shape(craft: Craft, put: Put) -> None:
    volume = read_volume(put(craft()))
    with pytest.raises(ConfigError, match="restore"):
        restore(volume, np.zeros((4, 4, 4)))
