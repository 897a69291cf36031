"""Pairs, MGH, NRRD and MetaImage: values and affines against the format's own library."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import metaimageio
import nibabel
import nrrd
import numpy as np
import pytest
from nibabel.spm2analyze import Spm2AnalyzeImage

from fastgan.data import read_volume, restore
from fastgan.data.volume import content_digest, read_head, read_spacing
from fastgan.errors import BadFile, CorruptFile, FastganError, ResourceLimit, UnsafeFile

DTYPES = ("u1", "i2", "<u2", ">i2", "i4", "f4", ">f4", "f8")
AXES = [
    np.array(axes) * signs
    for axes in itertools.permutations(np.eye(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affines() -> list[np.ndarray]:
    """All 48 axis-aligned orientations, and twelve oblique ones, at three voxel sizes."""
    rng = np.random.default_rng(5)
    turned = [np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(12)]
    out = []
    for directions in [*(np.array(a).reshape(3, 3) for a in AXES), *turned]:
        affine = np.eye(4)
        affine[:3, :3] = directions * (0.7, 1.25, 3.0)
        affine[:3, 3] = (-31.5, 12.25, 40.0)
        out.append(affine)
    return out


def array_of(dtype: str, seed: int = 0, shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


def same(path: Path | str, values: np.ndarray, affine: np.ndarray) -> None:
    """The volume is `values` on `affine` (mm, RAS), bit for bit and to 1e-6 mm."""
    volume = read_volume(path)
    assert np.array_equal(restore(volume, volume.array), values.astype(np.float32))
    assert np.abs(volume.source.affine - affine).max() < 1e-6
    reference = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(values.astype(np.float32), volume.source.affine)
    )
    # Halfway between two orientations nibabel may take the other.
    if volume.source.orientation.codes == "".join(nibabel.aff2axcodes(affine)):
        assert np.array_equal(volume.array, np.asarray(reference.dataobj))
        assert np.allclose(volume.affine, reference.affine, atol=1e-6)
    else:
        assert np.count_nonzero(np.abs(affine[:3, :3]) > 1e-6) > 3
    assert read_spacing(path) == volume.spacing


def test_mgh_equals_nibabel(tmp_path: Path) -> None:
    for i, affine in enumerate(affines()):
        dtype = (">u1", ">i2", ">i4", ">f4")[i % 4]
        path = tmp_path / f"a{i}{('.mgz', '.mgh')[i % 2]}"
        nibabel.save(nibabel.MGHImage(array_of(dtype, i), affine), path)
        loaded = nibabel.load(path)
        same(path, np.asarray(loaded.dataobj), loaded.affine)
        assert np.abs(loaded.affine - affine).max() < 1e-4


def test_nifti_pairs_equal_nibabel(tmp_path: Path) -> None:
    for i, affine in enumerate(affines()[::3]):
        kind = (nibabel.Nifti1Pair, nibabel.Nifti2Pair)[i % 2]
        ending = ("", ".gz")[i % 2]
        image = kind(array_of(DTYPES[i % 8], i), affine)
        image.header.set_slope_inter(1.0, 0.0)
        nibabel.save(image, tmp_path / f"a{i}.hdr{ending}")
        loaded = nibabel.load(tmp_path / f"a{i}.hdr{ending}")
        for half in ("hdr", "img"):
            same(tmp_path / f"a{i}.{half}{ending}", np.asarray(loaded.dataobj), loaded.affine)
    digest = content_digest(tmp_path / "a0.hdr")
    content = bytearray((tmp_path / "a0.img").read_bytes())
    content[3] ^= 1
    (tmp_path / "a0.img").write_bytes(content)
    assert content_digest(tmp_path / "a0.hdr") != digest


@pytest.mark.parametrize(
    "kind", [nibabel.AnalyzeImage, nibabel.Spm99AnalyzeImage, Spm2AnalyzeImage]
)
def test_analyze_equals_nibabel(kind: Any, tmp_path: Path) -> None:
    for i, dtype in enumerate(("u1", "i2", ">i2", "i4", "f4", "f8")):
        image = kind(array_of(dtype, i), None)
        image.header.set_zooms((0.7, 1.25, 3.0))
        image.header.set_data_dtype(np.dtype(dtype))
        nibabel.save(image, tmp_path / f"a{i}.img")
        for beside in tmp_path.glob("*.mat"):
            beside.unlink()
        loaded = nibabel.load(tmp_path / f"a{i}.hdr")
        same(tmp_path / f"a{i}.hdr", np.asarray(loaded.dataobj), loaded.affine)
        warnings = read_volume(tmp_path / f"a{i}.hdr").source.warnings
        assert "left and right may be swapped" in warnings[0]


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "text"])
def test_nrrd_equals_pynrrd(encoding: str, tmp_path: Path) -> None:
    signs = {
        "left-posterior-superior": LPS,
        "right-anterior-superior": np.eye(4),
        "LAS": np.diag([-1.0, 1.0, 1.0, 1.0]),
    }
    for i, affine in enumerate(affines()):
        space, to_ras = list(signs.items())[i % 3]
        world = to_ras @ affine
        dtype = ("u1", "i2", "u2", "f4", "f8", ">i2")[i % 6]
        fields = {
            "space": space,
            "space directions": world[:3, :3].T,
            "space origin": world[:3, 3],
            "encoding": encoding,
            "kinds": ["domain"] * 3,
        }
        name = f"a{i}{('.nrrd', '.nhdr')[i % 2]}"
        nrrd.write(str(tmp_path / name), array_of(dtype, i), fields)
        values, found = nrrd.read(str(tmp_path / name))
        expected = np.eye(4)
        expected[:3, :3] = np.array(found["space directions"]).T
        expected[:3, 3] = found["space origin"]
        same(tmp_path / name, values, to_ras @ expected)
        assert np.array_equal(values, array_of(dtype, i))


def test_nrrd_without_orientation_and_with_several_volumes(tmp_path: Path) -> None:
    cube = array_of("i2")
    nrrd.write(str(tmp_path / "a.nrrd"), cube, {"spacings": [0.5, 1.0, 2.0]})
    volume = read_volume(tmp_path / "a.nrrd")
    assert volume.spacing == (0.5, 1.0, 2.0) and "no orientation" in volume.source.warnings[0]
    directions = np.vstack([np.full(3, np.nan), np.eye(3)])
    many = array_of("i2", shape=(6, 5, 4, 3))
    fields = {"space": "LPS", "space directions": directions, "space origin": np.zeros(3)}
    nrrd.write(str(tmp_path / "b.nrrd"), many, fields | {"kinds": ["list", *["domain"] * 3]})
    with pytest.raises(BadFile, match=r"6 volumes.*--volume 0 to 5"):
        read_volume(tmp_path / "b.nrrd")
    for k in (0, 5):
        same(f"{tmp_path / 'b.nrrd'}#{k}", many[k], LPS)
    fields["kinds"] = ["RGB-color", *["domain"] * 3]
    nrrd.write(str(tmp_path / "c.nrrd"), many[:3], fields)
    with pytest.raises(BadFile, match="rgb-color"):
        read_volume(tmp_path / "c.nrrd")


def test_metaimage_equals_metaimageio(tmp_path: Path) -> None:
    for i, affine in enumerate(affines()):
        world = LPS @ affine
        path = tmp_path / f"a{i}{('.mha', '.mhd')[i % 2]}"
        # metaimageio takes and gives the slowest axis first, and directions in columns.
        metaimageio.write(
            path,
            array_of(DTYPES[i % 8].strip("<>"), i).T,
            TransformMatrix=world[:3, :3] / (0.7, 1.25, 3.0),
            Offset=world[:3, 3],
            ElementSpacing=(0.7, 1.25, 3.0),
            CompressedData=i % 3 == 0,
        )
        values, about = metaimageio.read(path)
        expected = np.eye(4)
        expected[:3, :3] = about["TransformMatrix"] * about["ElementSpacing"]
        expected[:3, 3] = about["Offset"]
        same(path, values.T, LPS @ expected)
        assert np.abs(LPS @ expected - affine).max() < 1e-6


def mha(data: bytes, **changes: str) -> bytes:
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 0 1 0 1 0",
        "Offset": "-10 20 30",
        "AnatomicalOrientation": "RSA",
        "ElementSpacing": "0.5 0.75 2",
        "DimSize": "5 4 3",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    } | changes
    last = fields.pop("ElementDataFile")
    lines = [f"{key} = {value}" for key, value in fields.items()]
    return "\n".join([*lines, f"ElementDataFile = {last}\n"]).encode() + data


def test_metaimage_as_itk_writes_it(tmp_path: Path) -> None:
    """A matrix's rows are directions: axis 1 runs along world axis 2, upwards."""
    cube = array_of("<i2")
    expected = np.array([[-0.5, 0, 0, 10], [0, 0, -2, -20], [0, 0.75, 0, 30], [0, 0, 0, 1]])
    (tmp_path / "a.mha").write_bytes(mha(cube.tobytes(order="F")))
    same(tmp_path / "a.mha", cube, expected)
    packed = zlib.compress(cube.astype(">i2").tobytes(order="F"))
    (tmp_path / "b.zraw").write_bytes(packed)
    header = mha(
        b"", CompressedData="True", BinaryDataByteOrderMSB="True", ElementDataFile="b.zraw"
    )
    (tmp_path / "b.mhd").write_bytes(header)
    same(tmp_path / "b.mhd", cube, expected)
    many = array_of("<i2", shape=(5, 4, 3, 2))
    four = {
        "NDims": "4",
        "DimSize": "5 4 3 2",
        "TransformMatrix": "1 0 0 0 0 0 1 0 0 1 0 0 0 0 0 1",
        "Offset": "-10 20 30 0",
        "ElementSpacing": "0.5 0.75 2 1",
    }
    (tmp_path / "c.mha").write_bytes(mha(many.tobytes(order="F"), **four))
    assert read_head(tmp_path / "c.mha").volumes == 2
    same(f"{tmp_path / 'c.mha'}#1", many[..., 1], expected)


META: list[tuple[str, dict[str, str], bytes, type[Exception], str]] = [
    ("vector", {"ElementNumberOfChannels": "3"}, bytes(120), BadFile, "vector or colour"),
    ("list", {"ElementDataFile": "LIST"}, b"a.raw\n", BadFile, "list of files"),
    ("elsewhere", {"ElementDataFile": "../x.raw"}, b"", UnsafeFile, "leads out of its folder"),
    ("absolute", {"ElementDataFile": "/etc/passwd"}, b"", UnsafeFile, "leads out"),
    ("missing", {"ElementDataFile": "x.raw"}, b"", BadFile, "x.raw: cannot read: no such file"),
    ("cut", {}, bytes(119), CorruptFile, "DimSize"),
    ("longer", {}, bytes(121), CorruptFile, "data"),
    ("text", {"BinaryData": "False"}, bytes(120), BadFile, "BinaryData"),
    ("huge", {"DimSize": "40000 40000 40000"}, bytes(9), ResourceLimit, "DimSize"),
    ("type", {"ElementType": "MET_OTHER"}, bytes(120), BadFile, "ElementType"),
    ("singular", {"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, bytes(120), CorruptFile, "singular"),
    ("nan", {"Offset": "nan 0 0"}, bytes(120), CorruptFile, "Offset"),
    ("rows", {"NDims": "4"}, bytes(120), CorruptFile, "NDims"),
    ("mesh", {"ObjectType": "Mesh"}, bytes(120), BadFile, "ObjectType"),
    ("packed", {"CompressedData": "True"}, zlib.compress(bytes(120))[:-3], CorruptFile, "cut"),
    ("bomb", {"CompressedData": "True"}, zlib.compress(bytes(9999)), CorruptFile, "promised"),
]


@pytest.mark.parametrize(
    ("case", "changes", "data", "error", "text"), META, ids=[c[0] for c in META]
)
def test_rejects_metaimage(
    case: str, changes: dict[str, str], data: bytes, error: type, text: str, tmp_path: Path
) -> None:
    (tmp_path / "a.mha").write_bytes(mha(data, **changes))
    with pytest.raises(error, match=text) as caught:
        read_volume(tmp_path / "a.mha")
    assert type(caught.value) is error and "\n" not in str(caught.value)


def test_rejects_nrrd(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    head = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\n"
    cases: list[tuple[bytes, type[Exception], str]] = [
        (b"encoding: hex\n\n" + bytes(240), BadFile, "hex"),
        (b"encoding: raw\n\n" + bytes(119), CorruptFile, "sizes"),
        (b"encoding: raw\n\n" + bytes(121), CorruptFile, "data"),
        (b"encoding: gzip\n\n" + gzip.compress(bytes(120))[:-1], CorruptFile, "cut"),
        (b"encoding: raw\ndata file: ../b.raw\n", UnsafeFile, "leads out"),
        (b"encoding: raw\ndata file: LIST\nb.raw\n", BadFile, "list of files"),
        (b"encoding: raw\nspace directions: (0,0,0) (0,1,0) (0,0,1)\n\n", CorruptFile, "singular"),
        (b"encoding: raw\nspace origin: (1,2\n\n" + bytes(120), CorruptFile, "NRRD header|origin"),
    ]
    for rest, error, text in cases:
        path.write_bytes(head + rest)
        with pytest.raises(error, match=text) as caught:
            read_volume(path)
        assert type(caught.value) is error and "\n" not in str(caught.value)
    path.write_bytes(head.replace(b"5 4 3", b"50000 40000 30000") + b"encoding: gzip\n\nxxx")
    with pytest.raises(ResourceLimit):
        read_volume(path)


def test_four_dimensional_files_by_volume(tmp_path: Path) -> None:
    many = array_of("i2", shape=(5, 4, 3, 4))
    affine = affines()[50]
    nibabel.save(nibabel.Nifti1Image(many, affine), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(many, affine), tmp_path / "a.nii")
    nibabel.save(nibabel.MGHImage(many, affine), tmp_path / "a.mgz")
    np.save(tmp_path / "a.npy", many)
    digests = set()
    for name in ("a.nii.gz", "a.nii", "a.mgz", "a.npy"):
        path = tmp_path / name
        loaded = np.eye(4) if name == "a.npy" else nibabel.load(path).affine
        assert read_head(path).volumes == 4
        for k in range(4):
            same(f"{path}#{k}", many[..., k], loaded)
            digests.add(content_digest(f"{path}#{k}"))
        with pytest.raises(BadFile, match="4 volumes, where a 3-D volume is meant; choose one by"):
            read_volume(path)
        with pytest.raises(BadFile, match="volume 4 is not there; 0 to 3 are"):
            read_volume(f"{path}#4")
        with pytest.raises(BadFile, match="volume 'x': a number"):
            read_volume(f"{path}#x")
    assert len(digests) == 16
    # The part that was not asked for is checked all the same.
    cut = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(cut[:-3])
    with pytest.raises(CorruptFile, match="gzip"):
        read_volume(f"{tmp_path / 'a.nii.gz'}#0")


def test_what_is_no_volume_says_so(tmp_path: Path, craft: Callable[..., bytes]) -> None:
    for shape, text in (
        ((5000, 1, 6), "surface or a table"),
        ((9, 1, 6), "one slice"),
        ((9, 6, 5, 1, 3), "a vector per voxel"),
    ):
        nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), tmp_path / "a.nii")
        with pytest.raises(BadFile, match=text):
            read_volume(tmp_path / "a.nii")
    (tmp_path / "odd#name.nii").write_bytes(craft())
    assert read_volume(tmp_path / "odd#name.nii").array.shape == (4, 5, 6)


def test_random_damage_of_every_format(tmp_path: Path) -> None:
    cube = array_of("i2")
    nibabel.save(nibabel.MGHImage(cube.astype(">i2"), np.eye(4)), tmp_path / "a.mgh")
    nibabel.save(nibabel.MGHImage(cube.astype(">i2"), np.eye(4)), tmp_path / "a.mgz")
    nibabel.save(nibabel.Nifti1Pair(cube, np.eye(4)), tmp_path / "a.hdr")
    nibabel.save(nibabel.AnalyzeImage(cube, np.eye(4)), tmp_path / "b.hdr")
    nrrd.write(str(tmp_path / "a.nrrd"), cube)
    (tmp_path / "a.mha").write_bytes(mha(cube.tobytes(order="F")))
    rng, read = np.random.default_rng(0), 0
    for name in ("a.mgh", "a.mgz", "a.hdr", "b.hdr", "a.nrrd", "a.mha"):
        good = (tmp_path / name).read_bytes()
        for _ in range(200):
            broken = bytearray(good)
            for place in rng.integers(0, min(len(good), 400), rng.integers(1, 4)):
                broken[place] = rng.integers(0, 256)
            (tmp_path / name).write_bytes(broken)
            try:
                read_volume(tmp_path / name)
                read += 1
            except FastganError as error:
                assert "\n" not in str(error)
        os.unlink(tmp_path / name)
    assert 100 < read < 1200
