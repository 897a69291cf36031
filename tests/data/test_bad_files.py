"""Every bad volume is refused with the right error, naming the file and the field."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgan.data.normalise import intensity_range
from fastgan.data.stream import PlainReader
from fastgan.data.volume import read_volume
from fastgan.errors import BadFile, CorruptFile, FastganError, ResourceLimit, UnsafeFile

Craft = Callable[..., bytes]
Put = Callable[..., Path]

FIELDS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("not a header", {"sizeof_hdr": 1234}, CorruptFile, "sizeof_hdr"),
    ("dim0 zero", {"dim0": 0}, CorruptFile, r"dim\[0\]"),
    ("dim0 eight", {"dim0": 8}, CorruptFile, r"dim\[0\]"),
    ("dim0 swapped", {"dim0": 0x300}, CorruptFile, r"dim\[0\]"),
    ("extent zero", {"dim2": 0}, CorruptFile, "dim"),
    ("extent negative", {"dim2": -5}, CorruptFile, "dim"),
    ("two-dimensional", {"dim0": 2}, BadFile, "3-D"),
    ("four-dimensional", {"dim0": 4, "dim4": 2}, BadFile, "3-D"),
    ("vector", {"dim0": 5, "dim5": 3}, BadFile, "3-D"),
    ("more data promised", {"dim1": 5}, CorruptFile, "dim|data"),
    ("less data promised", {"dim1": 3}, CorruptFile, "data"),
    ("offset inside header", {"vox_offset": 348.0}, CorruptFile, "vox_offset"),
    ("offset negative", {"vox_offset": -352.0}, CorruptFile, "vox_offset"),
    ("offset fractional", {"vox_offset": 352.5}, CorruptFile, "vox_offset"),
    ("offset nan", {"vox_offset": float("nan")}, CorruptFile, "vox_offset"),
    ("offset past the end", {"vox_offset": 1e7}, CorruptFile, "dim|vox_offset"),
    ("complex", {"datatype": 32, "bitpix": 64}, BadFile, "complex"),
    ("rgb", {"datatype": 128, "bitpix": 24}, BadFile, "RGB"),
    ("unknown type", {"datatype": 7}, BadFile, "datatype"),
    ("bitpix contradicts", {"bitpix": 32}, CorruptFile, "bitpix"),
    ("slope nan", {"scl_slope": float("nan")}, CorruptFile, "scl_slope"),
    ("intercept infinite", {"scl_inter": float("inf")}, CorruptFile, "scl_slope"),
    ("scale overflows", {"scl_slope": 3e38}, CorruptFile, "scl_slope"),
    ("voxel zero", {"pixdim1": 0.0}, CorruptFile, "pixdim"),
    ("voxel negative", {"pixdim2": -2.0}, CorruptFile, "pixdim"),
    ("voxel nan", {"pixdim3": float("nan")}, CorruptFile, "pixdim"),
    ("voxel huge", {"pixdim3": 1e30}, CorruptFile, "pixdim"),
    ("unit unknown", {"xyzt_units": 5}, CorruptFile, "xyzt_units"),
    ("sform singular", {"srow_y1": 0.0}, CorruptFile, "sform"),
    ("sform nan", {"srow_x0": float("nan")}, CorruptFile, "sform"),
    ("quaternion too long", {"quatern_b": 2.0}, CorruptFile, "quatern"),
    ("quaternion nan", {"quatern_b": float("nan")}, CorruptFile, "quatern"),
    ("qform against sform", {"qoffset_x": 40.0}, CorruptFile, "qform, sform"),
    ("analyze", {"magic": b"\0\0\0\0"}, BadFile, "Analyze"),
    ("detached", {"magic": b"ni1\0"}, BadFile, "detached"),
    ("magic broken", {"magic": b"x+1\0"}, CorruptFile, "magic"),
]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("case", "changes", "error", "field"), FIELDS, ids=[c[0] for c in FIELDS])
def test_rejects_field(
    craft: Craft, put: Put, case: str, changes: dict[str, Any], error: type, field: str, name: str
) -> None:
    path = put(craft(**changes), name)
    with pytest.raises(error, match=field) as caught:
        read_volume(path)
    assert type(caught.value) is error
    assert str(path) in str(caught.value)


def test_rejects_missing_empty_and_cut(craft: Craft, put: Put, tmp_path: Path) -> None:
    good = craft()
    with pytest.raises(BadFile, match="no such file"):
        read_volume(tmp_path / "none.nii")
    with pytest.raises(BadFile, match="folder"):
        read_volume(put(good, "deep/b.nii").parent.rename(tmp_path / "folder.nii"))
    with pytest.raises(BadFile, match="empty"):
        read_volume(put(b""))
    for length in (1, 3, 4, 100, 347):
        with pytest.raises(CorruptFile, match="header"):
            read_volume(put(good[:length]))
    for length in (348, 351, 352, 400, len(good) - 1):
        with pytest.raises(CorruptFile):
            read_volume(put(good[:length]))
    with pytest.raises(CorruptFile, match="follow"):
        read_volume(put(good + b"\0"))
    with pytest.raises(CorruptFile, match="data"):
        read_volume(put(good[:-1], "a.nii.gz"))
    with pytest.raises(CorruptFile, match="follow"):
        read_volume(put(good + b"\0", "a.nii.gz"))


def test_rejects_every_cut_of_a_gzip(craft: Craft, put: Put) -> None:
    packed = gzip.compress(craft(), mtime=0)
    for length in [*range(2, len(packed) - 8, 5), *range(len(packed) - 8, len(packed))]:
        with pytest.raises(BadFile):
            read_volume(put(packed[:length], "a.nii.gz", pack=False))


def test_no_flipped_bit_of_a_gzip_changes_the_result_silently(craft: Craft, put: Put) -> None:
    packed = gzip.compress(craft(), mtime=0)
    expected = read_volume(put(packed, "a.nii.gz", pack=False))
    refused = tried = 0
    # Every eleventh bit: all eight places of a byte in turn.
    for position in range(0, 8 * len(packed), 11):
        tried += 1
        broken = bytearray(packed)
        broken[position // 8] ^= 1 << position % 8
        try:
            volume = read_volume(put(bytes(broken), "a.nii.gz", pack=False))
        except BadFile:
            refused += 1
            continue
        # Gzip's time stamp carries no content, and a deflate code may unpack to the same bytes.
        assert volume.source.digest == expected.source.digest
        assert np.array_equal(volume.array, expected.array)
    assert refused >= 0.9 * tried


def test_gzip_members(craft: Craft, put: Put) -> None:
    good = craft()
    halves = gzip.compress(good[:300], mtime=0) + gzip.compress(good[300:], mtime=0)
    assert np.array_equal(
        read_volume(put(halves, "two.nii.gz", pack=False)).array,
        read_volume(put(good, "one.nii")).array,
    )
    for tail in (b"\0", b"\x1f", b"garbage", b"\x1f\x8bgarbage"):
        with pytest.raises(CorruptFile, match="gzip"):
            read_volume(put(gzip.compress(good) + tail, "a.nii.gz", pack=False))


def test_rejects_promises_a_file_cannot_hold(craft: Craft, put: Put) -> None:
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(ResourceLimit, match="dim"):
            read_volume(put(craft(dim1=32767, dim2=32767, dim3=32767), name))
    with pytest.raises(CorruptFile, match="promised"):
        read_volume(put(craft(dim1=1000, dim2=1000, dim3=900), "a.nii.gz"))


def test_rejects_a_decompression_bomb(craft: Craft, put: Put) -> None:
    # 600 MB promised by 1 MB is within what deflate can do, and refused by the header alone.
    start = gzip.compress(craft(dim1=1000, dim2=1000, dim3=300))
    with pytest.raises(ResourceLimit, match="to 1"):
        read_volume(put(start.ljust(1 << 20, b"x"), "a.nii.gz", pack=False))


def test_rejects_wrong_names(craft: Craft, put: Put, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="rename"):
        read_volume(put(craft(), "a.nii.gz", pack=False))
    with pytest.raises(BadFile, match="rename"):
        read_volume(put(craft(), "a.nii", pack=True))
    with pytest.raises(BadFile, match="name"):
        read_volume(put(craft(), "a.mha"))
    with pytest.raises(BadFile, match=r"b\.img is missing"):
        read_volume(put(craft(), "b.hdr"))
    put(craft(), "b.img")
    with pytest.raises(BadFile, match=r"one file; name it \.nii"):
        read_volume(tmp_path / "b.img")


def test_rejects_what_is_no_regular_file(craft: Craft, put: Put, tmp_path: Path) -> None:
    (tmp_path / "link.nii").symlink_to(put(craft()))
    os.mkfifo(tmp_path / "fifo.nii")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket.nii"))
    for name in ("link.nii", "fifo.nii", "socket.nii"):
        with pytest.raises(UnsafeFile, match=name):
            read_volume(tmp_path / name)
    server.close()


def test_rejects_no_permission(craft: Craft, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: Any) -> int:
        raise PermissionError(13, "Permission denied")

    path = put(craft())
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(BadFile, match="cannot read: Permission denied"):
        read_volume(path)


@pytest.mark.parametrize("failures", [1, 5])
def test_read_errors_are_retried_then_raised(craft: Craft, put: Put, failures: int) -> None:
    path, left = put(craft()), [failures]

    class Flaky(io.FileIO):
        def read(self, size: int = -1) -> bytes:  # type: ignore[override]
            if left[0]:
                left[0] -= 1
                raise OSError(5, "Input/output error")
            return super().read(size)

    with Flaky(path) as file:
        reader = PlainReader(path, file)  # type: ignore[arg-type]
        if failures == 1:
            assert reader.read(10**6) == craft()
        else:
            with pytest.raises(BadFile, match="cannot read"):
                reader.read(10**6)


def test_rejects_a_file_changed_while_read(
    craft: Craft, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastgan.data.formats import nifti

    path, parse = put(craft()), nifti.parse_header

    def parse_and_touch(*arguments: Any, **flags: Any) -> Any:
        os.utime(path, ns=(1, 1))
        return parse(*arguments, **flags)

    monkeypatch.setattr(nifti, "parse_header", parse_and_touch)
    with pytest.raises(CorruptFile, match="changed"):
        read_volume(path)


def test_rejects_voxels_that_are_not_finite(craft: Craft, put: Put) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        array = np.zeros((4, 5, 6), "<f4")
        array[1, 2, 3] = bad
        with pytest.raises(BadFile, match="1 voxels are NaN or infinite"):
            read_volume(put(craft(array)))
    with pytest.raises(CorruptFile, match="float32"):
        read_volume(put(craft(np.full((2, 2, 2), 1e300, "<f8"))))


@pytest.mark.parametrize("size", [-16, 0, 7, 17, 2**31 - 1])
def test_rejects_extension_sizes(craft: Craft, put: Put, size: int) -> None:
    content = craft()
    content = content[:352] + bytes(16) + content[352:]
    broken = bytearray(content)
    struct.pack_into("<f", broken, 108, 368.0)
    broken[348] = 1
    struct.pack_into("<ii", broken, 352, size, 6)
    with pytest.raises(CorruptFile, match="esize"):
        read_volume(put(bytes(broken)))


def test_rejects_arrays(put: Put, tmp_path: Path) -> None:
    def npy(array: np.ndarray) -> bytes:
        out = io.BytesIO()
        np.save(out, array, allow_pickle=True)
        return out.getvalue()

    good = npy(np.ones((3, 4, 5), np.float32))
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(canary),)

    with pytest.raises(UnsafeFile, match="pickle"):
        read_volume(put(npy(np.array([Bomb()], object)), "a.npy"))
    with pytest.raises(CorruptFile):
        read_volume(put(pickle.dumps(Bomb()), "a.npy"))
    assert not canary.exists()
    for content in (good[:5], good[:60], good[:-1], good + b"\0"):
        with pytest.raises(CorruptFile, match="npy"):
            read_volume(put(content, "a.npy"))
    for shape in ((3, 4), (3, 4, 5, 2)):
        with pytest.raises(BadFile, match="3-D"):
            read_volume(put(npy(np.ones(shape)), "a.npy"))
    with pytest.raises(BadFile, match="dtype"):
        read_volume(put(npy(np.ones((2, 2, 2), complex)), "a.npy"))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("volume.npy", good)
    packed = (tmp_path / "a.npz").read_bytes()
    assert read_volume(tmp_path / "a.npz").array.sum() == 60.0
    flipped = bytearray(packed)
    flipped[packed.index(good) + len(good) - 2] ^= 1
    for content in (bytes(flipped), packed[:50], b"PK"):
        with pytest.raises(CorruptFile, match="npz"):
            read_volume(put(content, "b.npz"))
    np.savez(tmp_path / "two.npz", a=np.ones((2, 2, 2)), b=np.ones((2, 2, 2)))
    with pytest.raises(BadFile, match="one array"):
        read_volume(tmp_path / "two.npz")
    np.savez(tmp_path / "geo.npz", a=np.ones((2, 2, 2)), affine=np.zeros((4, 4)))
    with pytest.raises(CorruptFile, match="affine"):
        read_volume(tmp_path / "geo.npz")


def test_random_damage_never_ends_in_another_error(craft: Craft, put: Put) -> None:
    rng = np.random.default_rng(0)
    files = {"a.nii": craft(), "a.nii.gz": craft()}
    for name, save in (("a.npy", np.save), ("a.npz", np.savez_compressed)):
        out = io.BytesIO()
        save(out, np.ones((4, 4, 4)))
        files[name] = out.getvalue()
    read = 0
    for k in range(1200):
        name, good = list(files.items())[k % 4]
        broken = bytearray(good)
        # Headers lie in front, a zip's directory at the end.
        reach = len(good) if name.endswith("npz") else min(len(good), 352)
        for place in rng.integers(0, reach, rng.integers(1, 4)):
            broken[place] = rng.integers(0, 256)
        with contextlib.suppress(FastganError):
            read_volume(put(bytes(broken), name))
            read += 1
    assert 0 < read < 1200  # some damage is harmless, some is refused


def test_rejects_intensities(craft: Craft, put: Put) -> None:
    constant = read_volume(put(craft(np.full((4, 4, 4), 7, "<i2"))))
    with pytest.raises(BadFile, match="constant"):
        intensity_range(constant, "mr")
    unsigned = read_volume(put(craft(np.arange(64, dtype="<u2").reshape(4, 4, 4))))
    with pytest.raises(BadFile, match="unsigned"):
        intensity_range(unsigned, "ct")
    with pytest.raises(BadFile, match="0 to 1"):
        intensity_range(unsigned, "mask")
