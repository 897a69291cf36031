"""DICOM series and enhanced images: values and geometry against pydicom and nibabel; refusals."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from nibabel.nicom.dicomwrappers import wrapper_from_data
from pydicom.data import get_testdata_file

from fastgan.data import read_volume, scan_folder
from fastgan.data.formats import dicom_header, extras
from fastgan.data.listing import list_folder
from fastgan.data.volume import content_digest, read_spacing
from fastgan.errors import BadFile, CorruptFile, UnsafeFile
from tests.data.dicom_files import header, numbers, save, write_enhanced, write_series

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def voxels(slices: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-1000, 3000, (slices, 7, 5)).astype(np.int16)


@pytest.mark.parametrize("seed", range(12))
def test_series_equals_pydicom_and_nibabel(seed: int, tmp_path: Path) -> None:
    scales = [(1.0 + 0.25 * (k % 3), -1024.0 + k) for k in range(6)]
    paths = write_series(tmp_path / "a", voxels(seed=seed), seed=seed, scales=scales)
    volume = read_volume(tmp_path / "a")
    world_to_voxel = np.linalg.inv(volume.affine)
    seen = np.zeros(volume.array.shape, bool)
    for path in paths:
        one = pydicom.dcmread(path)
        values = one.pixel_array.astype(np.float64) * float(one.RescaleSlope)
        values = (values + float(one.RescaleIntercept)).astype(np.float32)
        affine = RAS @ wrapper_from_data(one).affine
        for r in range(one.Rows):
            for c in range(one.Columns):
                at = world_to_voxel @ affine @ (r, c, 0, 1)
                assert np.abs(at - np.rint(at)).max() < 1e-6
                i, j, k = np.rint(at[:3]).astype(int)
                assert volume.array[i, j, k] == values[r, c]
                seen[i, j, k] = True
    assert seen.all()
    assert read_spacing(tmp_path / "a") == volume.spacing
    assert volume.source.says == "ct"


@pytest.mark.parametrize("seed", range(4))
def test_enhanced_equals_the_series_of_its_frames(seed: int, tmp_path: Path) -> None:
    cube = voxels(seed=seed)
    volume = read_volume(write_enhanced(tmp_path / "e.dcm", cube, seed))
    one = pydicom.dcmread(tmp_path / "e.dcm")
    shared = one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    direction = np.array(shared.ImageOrientationPatient, float)
    for frame, stored in zip(one.PerFrameFunctionalGroupsSequence, one.pixel_array, strict=True):
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        values = frame.PixelValueTransformationSequence[0]
        expected = stored * float(values.RescaleSlope) + float(values.RescaleIntercept)
        for r, c in ((0, 0), (3, 1), (6, 4)):
            world = origin + direction[:3] * c * 0.75 + direction[3:] * r * 0.5
            at = np.linalg.inv(volume.affine) @ RAS @ (*world, 1.0)
            assert np.abs(at - np.rint(at)).max() < 1e-6
            assert volume.array[tuple(np.rint(at[:3]).astype(int))] == np.float32(expected[r, c])


def test_series_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    a = write_series(tmp_path, voxels(seed=1))
    other = {"SeriesInstanceUID": "1.2.9", "SeriesDescription": "soft kernel"}
    b = write_series(tmp_path / "x", voxels(5, seed=2), PatientID="other", **other)
    for path in b:
        shutil.move(path, tmp_path / f"B{path.name}")
    write_enhanced(tmp_path / "many.dcm", voxels(4))
    (tmp_path / "DICOMDIR").write_bytes(a[0].read_bytes())
    (tmp_path / "notes.pdf").write_bytes(b"x")
    save(report(), tmp_path / "report.dcm")
    (tmp_path / "x").rmdir()
    listing = list_folder(tmp_path)
    names = [Path(item.path).name for item in listing.items]
    assert sorted(names) == sorted(
        [f"{tmp_path.name}#1.2.9", f"{tmp_path.name}#{series_uid(a[0])}", "many.dcm"]
    )
    shapes = {Path(i.path).name: read_volume(i.path).array.shape for i in listing.items}
    assert shapes[f"{tmp_path.name}#1.2.9"] == (5, 7, 5)
    assert listing.unread == {
        "DICOMDIR, which is not followed": 1,
        "DICOM files without an image (SR)": 1,
        "texts (.pdf)": 1,
    }
    with pytest.raises(BadFile, match=r"2 DICOM series; name one.*soft kernel"):
        read_volume(tmp_path)
    with pytest.raises(BadFile, match=r"no DICOM series 7\.7"):
        read_volume(f"{tmp_path}#7.7")


def report() -> Any:
    out = header(Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    del out.SamplesPerPixel
    return out


def series_uid(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID)


def test_identity_stays_in_the_files(tmp_path: Path) -> None:
    write_series(tmp_path / "p1", voxels(seed=1), SeriesInstanceUID="1.1")
    write_series(tmp_path / "p2", voxels(seed=2), SeriesInstanceUID="1.2")
    first, second = scan_folder(tmp_path)
    # One patient in two folders is one subject, under a name nobody can read.
    assert first.subject == second.subject and first.subject.startswith("dicom-")
    assert "4711" not in repr(first) and first.subject_named
    assert first.modality == "ct" and first.scanner == "ACME"
    assert content_digest(first.path) != content_digest(second.path)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "missing slice",
        {"shift": {k: np.array([0, 0, 2.0]) for k in (3, 4, 5)}},
        "slices missing: 1 after slice 3 of 6",
    ),
    ("uneven", {"shift": {3: np.array([0, 0, 0.7])}}, "mm apart, where one spacing"),
    ("twice", {"shift": {3: np.array([0, 0, -2.0])}}, "lie where another does"),
    ("tilt", {"shift": {k: np.array([0, 0.5 * k, 0]) for k in range(6)}}, "gantry tilted by 14"),
    ("bent", {"shift": {3: np.array([0, 5.0, 0])}}, "not in one line"),
    ("turned", {"change": {2: {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}}}, "several direc"),
    ("pixel sizes", {"change": {2: {"PixelSpacing": [1, 1]}}}, "several pixel sizes"),
    ("no position", {"change": {2: {"ImagePositionPatient": None}}}, "without position"),
    ("colour", {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, r"colour \(RGB\)"),
    ("secondary", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
    ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
    ("segmentation", {"Modality": "SEG"}, "modality SEG"),
]


@pytest.mark.parametrize(("case", "wrong", "message"), REFUSED, ids=[c[0] for c in REFUSED])
def test_rejects_series(case: str, wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    cube = voxels()
    if case == "colour":
        cube = np.repeat(cube, 3, axis=2)
    paths = write_series(tmp_path / "a", cube, **wrong)
    if case == "colour":
        for path in paths:
            one = pydicom.dcmread(path)
            one.Columns = 5
            one.PlanarConfiguration = 0
            save(one, path)
    with pytest.raises(BadFile, match=message) as caught:
        read_volume(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_rejects_single_files(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", voxels())
    for path in paths[1:]:
        path.unlink()
    with pytest.raises(BadFile, match="one slice"):
        read_volume(tmp_path / "a")
    with pytest.raises(BadFile, match="one slice of a DICOM series; name its folder"):
        read_volume(paths[0].rename(tmp_path / "slice.dcm"))
    content = (tmp_path / "slice.dcm").read_bytes()
    (tmp_path / "program.dcm").write_bytes(b"MZ" + content[2:])
    with pytest.raises(UnsafeFile, match="program"):
        read_volume(tmp_path / "program.dcm")
    cut = write_series(tmp_path / "b", voxels())[2]
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(CorruptFile, match=f"{cut.name}: pixels: damaged"):
        read_volume(tmp_path / "b")
    os.symlink(tmp_path / "slice.dcm", tmp_path / "link.dcm")
    with pytest.raises(UnsafeFile, match="symbolic link"):
        read_volume(tmp_path / "link.dcm")


def test_no_damage_ends_in_another_error(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", voxels(3))
    good, rng = paths[1].read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(250):
        broken = bytearray(good)
        for place in rng.integers(128, len(good), rng.integers(1, 5)):
            broken[place] = rng.integers(0, 256)
        cut = rng.integers(200, len(good)) if rng.uniform() < 0.2 else len(good)
        paths[1].write_bytes(bytes(broken[:cut]))
        dicom_header._read.cache_clear()
        try:
            read_volume(tmp_path / "a")
        except BadFile as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


COMPRESSED = {
    "MR_small_jpeg_ls_lossless.dcm": "JPEG-LS.*pip install pylibjpeg pylibjpeg-libjpeg",
    "image_dfl.dcm": "deflated.*dcmconv",
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_says_what_unpacks_it(name: str, tmp_path: Path) -> None:
    source = get_testdata_file(name)
    assert source is not None
    make_stack(str(source), tmp_path)
    with pytest.raises(BadFile, match=COMPRESSED[name]):
        read_volume(tmp_path)


def make_stack(source: str, folder: Path) -> None:
    """Two slices of one file, 1 mm apart."""
    for k in range(2):
        if "dfl" in source:
            shutil.copy(source, folder / f"{k}.dcm")
            continue
        one = pydicom.dcmread(source)
        place = np.array(one.ImagePositionPatient, float)
        direction = np.array(one.ImageOrientationPatient, float)
        normal = np.cross(direction[:3], direction[3:])
        one.ImagePositionPatient = numbers(place + k * normal)
        pydicom.dcmwrite(folder / f"{k}.dcm", one)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "CT_small.dcm"])
def test_scanners_own_files(name: str, tmp_path: Path) -> None:
    source = str(get_testdata_file(name))
    make_stack(source, tmp_path)
    volume = read_volume(tmp_path)
    one = pydicom.dcmread(source)
    slope, intercept = float(one.get("RescaleSlope", 1)), float(one.get("RescaleIntercept", 0))
    expected = (one.pixel_array * slope + intercept).astype(np.float32)
    assert sorted(volume.array.ravel()) == sorted(np.concatenate([expected.ravel()] * 2))
    assert volume.source.says == ("ct" if name.startswith("CT") else "mr")


def test_without_pydicom_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, craft: Callable[..., bytes]
) -> None:
    def missing(module: str) -> Any:
        raise ImportError(module)

    write_series(tmp_path / "a", voxels())
    dicom_header._read.cache_clear()
    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(BadFile, match=r"needs pydicom: pip install 'fastgan\[dicom\]'"):
        read_volume(tmp_path / "a")
    with pytest.raises(BadFile, match=r"DICOM files \(pip install 'fastgan\[dicom\]'\): 6"):
        list_folder(tmp_path)
    (tmp_path / "b.nii").write_bytes(craft())
    assert list_folder(tmp_path).unread == {"DICOM files (pip install 'fastgan[dicom]')": 6}
    (tmp_path / "c.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(BadFile, match=r"needs nrrd: pip install 'fastgan\[nrrd\]'"):
        read_volume(tmp_path / "c.nrrd")


def test_pixels_of_all_depths(tmp_path: Path) -> None:
    for bits, signed, dtype in ((8, 0, np.uint8), (16, 0, np.uint16), (16, 1, np.int16)):
        cube = np.random.default_rng(0).integers(0, 200, (4, 6, 6)).astype(dtype)
        folder = tmp_path / f"{bits}{signed}"
        depth = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
        scales = [(2.0, 1.0)] * 4
        write_series(folder, cube, scales=scales, PixelRepresentation=signed, **depth)
        volume = read_volume(folder)
        assert (volume.source.slope, volume.source.intercept) == (2.0, 1.0)
        assert volume.source.dtype == np.dtype(dtype).name
        assert sorted(volume.array.ravel()) == sorted((cube * 2.0 + 1.0).ravel())
