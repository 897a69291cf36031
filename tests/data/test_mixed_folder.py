"""A folder of everything: test files of nibabel and pydicom, and every fault in turn."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest

from fastgan.data.inspect import Inspection, inspect
from tests.data.dicom_files import write_enhanced, write_series

NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"
PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
Craft = Callable[..., bytes]


def scanners(folder: Path) -> None:
    """What nibabel and pydicom test themselves with; each DICOM file in a folder of its own."""
    for path in NIBABEL.iterdir():
        if path.is_file() and path.suffix not in (".py", ".m") and path.name != ".gitignore":
            shutil.copy(path, folder / path.name)
    for path in PYDICOM.iterdir():
        if path.is_file():
            (folder / "dicom" / path.stem).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / "dicom" / path.stem / path.name)


def good(folder: Path) -> list[str]:
    """Volumes that have to be read, one of each format."""
    rng = np.random.default_rng(0)
    body = rng.uniform(1.0, 900.0, (10, 9, 8)).astype(np.float32)
    chest = np.full((6, 24, 24), -1000, np.int16)
    chest[1:5, 6:18, 6:18] = rng.integers(1000, 1100, (4, 12, 12)) - 1024
    nibabel.save(nibabel.Nifti1Image(body, np.eye(4)), folder / "mr.nii.gz")
    nibabel.save(nibabel.Nifti2Image(body, np.eye(4)), folder / "mr2.nii")
    nibabel.save(nibabel.Nifti1Pair(body, np.eye(4)), folder / "pair.img")
    nibabel.save(nibabel.AnalyzeImage(body, np.eye(4)), folder / "old.img")
    nibabel.save(nibabel.MGHImage(body, np.eye(4)), folder / "fs.mgz")
    nrrd.write(str(folder / "slicer.nrrd"), body)
    nrrd.write(str(folder / "apart.nhdr"), body)
    (folder / "itk.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nDimSize = 10 9 8\nElementType = MET_FLOAT\n"
        b"ElementDataFile = LOCAL\n" + body.tobytes(order="F")
    )
    np.save(folder / "array.npy", body)
    np.savez(folder / "array.npz", volume=body, spacing=[1.0, 1.0, 2.0])
    write_series(folder / "chest", chest + 1024, scales=[(1.0, -1024.0)] * 6)
    write_enhanced(folder / "many_frames.dcm", chest + 1000)
    names = ["mr.nii.gz", "mr2.nii", "pair.hdr", "old.hdr", "fs.mgz", "slicer.nrrd", "apart.nhdr"]
    return [*names, "itk.mha", "array.npy", "array.npz", "chest", "many_frames.dcm"]


def faults(folder: Path, craft: Craft) -> list[str]:
    """Volumes that must not be read."""
    rng = np.random.default_rng(1)

    def image(name: str, array: np.ndarray) -> None:
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / name)

    plain = craft()
    packed = gzip.compress(plain)
    contents = {
        "empty.nii": b"",
        "text.nii": b"no volume at all",
        "short.nii": plain[:100],
        "cut.nii": plain[:-7],
        "cut.nii.gz": packed[:-30],
        "no_trailer.nii.gz": packed[:-8],
        "wrong_crc.nii.gz": packed[:-8] + b"abcd" + packed[-4:],
        "garbage.nii.gz": packed + b"garbage",
        "packed.nii": packed,
        "plain.nii.gz": plain,
        "huge.nii": craft(dim1=32767, dim2=32767, dim3=32767),
        "swapped.nii": craft(dim0=0x300),
        "offset.nii": craft(vox_offset=float("nan")),
        "complex.nii": craft(datatype=32, bitpix=64),
        "rgb.nii": craft(datatype=128, bitpix=24),
        "bits.nii": craft(bitpix=32),
        "slope.nii": craft(scl_slope=float("inf")),
        "voxel.nii": craft(pixdim1=0.0),
        "voxel_huge.nii": craft(pixdim3=1e30),
        "forms.nii": craft(qoffset_x=40.0),
        "singular.nii": craft(srow_y1=0.0),
        "magic.nii": craft(magic=b"x+1\0"),
        "detached.nii": craft(magic=b"ni1\0"),
        "half.hdr": craft(magic=b"ni1\0"),
        "half.img": b"",
        "alone.img": bytes(100),
        "pickle.npy": pickle.dumps([1, 2]),
        "no_zip.npz": b"PK nothing",
        "bad.nrrd": b"NRRD0005\ntype: short\ndimension: 3\nsizes: 9 9 9\nencoding: raw\n\nshort",
        "away.nhdr": b"NRRD0005\ntype: short\ndimension: 3\nsizes: 9 9 9\nencoding: raw\n"
        b"data file: ../../secret.raw\n",
        "bad.mha": b"ObjectType = Image\nNDims = 3\n",
        "away.mhd": b"ObjectType = Image\nNDims = 3\nDimSize = 9 9 9\nElementType = MET_SHORT\n"
        b"ElementDataFile = /etc/passwd\n",
        "bad.mgz": gzip.compress(bytes(300)),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    regions = np.kron(rng.integers(0, 40, (4, 4, 4)), np.ones((4, 4, 4))).astype(np.int16)
    image("labels_seg.nii.gz", regions)
    image("pval.nii", rng.uniform(0, 1, (27307, 1, 6)).astype(np.float32))
    image("flat.nii", np.ones((5, 5, 5), np.float32))
    image("nan.nii", np.full((5, 5, 5), np.nan, np.float32))
    image("slice.nii", rng.uniform(0, 9, (9, 9, 1)).astype(np.float32))
    image("time.nii", rng.uniform(0, 9, (5, 5, 5, 4)).astype(np.float32))
    image("vector.nii", rng.uniform(0, 9, (5, 5, 5, 1, 3)).astype(np.float32))
    os.symlink(folder / "mr.nii.gz", folder / "link.nii.gz")
    os.mkfifo(folder / "pipe.nii")
    np.savez(folder / "several.npz", a=np.ones((3, 3, 3)), b=np.ones((3, 3, 3)))
    cube = rng.integers(0, 900, (6, 8, 8)).astype(np.int16)
    write_series(folder / "gap", cube, SeriesInstanceUID="1.5", shift={5: np.array([0, 0, 2.0])})
    write_series(
        folder / "scout", cube, SeriesInstanceUID="1.6", ImageType=["DERIVED", "X", "LOCALIZER"]
    )
    names = [name for name in contents if name not in ("half.img", "alone.img")]
    made = ["labels_seg.nii.gz", "pval.nii", "flat.nii", "nan.nii", "slice.nii", "time.nii"]
    made += ["vector.nii", "link.nii.gz", "pipe.nii", "several.npz", "gap", "scout"]
    return [*names, *made, "alone.img"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inspection, set[str], set[str]]:
    """(inspection, what has to be read, what must not) of one folder of it all."""
    from tests.data.conftest import craft_nifti

    folder = tmp_path_factory.mktemp("mixed")
    scanners(folder)
    read, refused = good(folder), faults(folder, craft_nifti)
    (folder / "sheet.xlsx").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    return inspect(folder), set(read), set(refused)


def test_every_good_file_is_read_and_every_fault_refused(
    found: tuple[Inspection, set[str], set[str]],
) -> None:
    inspection, read, refused = found
    assert read <= {Path(file.path).name for file in inspection.files}
    assert refused <= {Path(file.path).name for file in inspection.refused}
    assert len(inspection.files) + len(inspection.refused) >= 60


def test_each_refusal_is_one_line_that_names_the_file_and_what_to_do(
    found: tuple[Inspection, set[str], set[str]],
) -> None:
    for refused in found[0].refused:
        assert "\n" not in refused.reason and len(refused.reason) < 600, refused
        # Of a pair the other half may be named.
        assert Path(refused.path).name.partition("#")[0].split(".")[0] in refused.reason, refused
        found_and_do = refused.reason.partition(";")
        assert len(found_and_do[2]) > 8, refused
        for word in ("Traceback", "Error(", "object at 0x", "NoneType"):
            assert word not in refused.reason, refused


def test_everything_else_is_named_by_kind(found: tuple[Inspection, set[str], set[str]]) -> None:
    unread = found[0].unread
    assert unread["tables (.xlsx)"] == 1 and unread["hidden files"] == 1
    assert unread["MINC (.mnc; convert by mnc2nii)"] > 5
    assert any(kind.startswith("Philips PAR/REC") for kind in unread)
    assert any(kind.startswith("DICOM files without an image") for kind in unread)


def test_modalities_in_the_mix(found: tuple[Inspection, set[str], set[str]]) -> None:
    kinds = {Path(file.path).name: file.modality for file in found[0].files}
    assert kinds["mr.nii.gz"] == kinds["slicer.nrrd"] == "mr"
    assert kinds["chest"] == kinds["many_frames.dcm"] == "ct"
    assert kinds["anatomical.nii"] == "mr"
