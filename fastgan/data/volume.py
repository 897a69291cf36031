"""One volume in from NIfTI, .npy or .npz in canonical order, and the exact way back out."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.data.array_file import read_npy, read_npz
from fastgan.data.geometry import Orientation, orientation_of, spacing_of, to_canonical, to_source
from fastgan.data.nifti import MAX_VOXELS, Header, Placement, parse_header, walk_extensions
from fastgan.data.stream import opened
from fastgan.errors import BadFile, ConfigError, CorruptFile, ResourceLimit

__all__ = ["SUFFIXES", "Source", "Volume", "read_spacing", "read_volume", "restore"]

SUFFIXES = (".nii", ".nii.gz", ".npy", ".npz")
LONGEST_EXTENSION = 64 << 20  # bytes between header and data; real ones hold a few kB of text
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Source:
    """Facts of the file a volume came from, enough for the way back.

    Attributes:
        path: as it was named.
        affine: [4, 4] float64 of the stored grid, mm.
        orientation: of the stored axes.
        shape: stored extents, trailing ones of 1 included.
        dtype: name of the stored number type.
        slope, intercept: value = slope * stored + intercept.
        digest: sha256 of the content, gzip unpacked, hex: equal for one image under two names.
        warnings: oddities of the header.
        extensions: (code, payload) of NIfTI header extensions.
        placement: the grid as a NIfTI header puts it; None for other files.
    """

    path: str
    affine: np.ndarray
    orientation: Orientation
    shape: tuple[int, ...]
    dtype: str
    slope: float
    intercept: float
    digest: str
    warnings: tuple[str, ...] = ()
    extensions: tuple[tuple[int, bytes], ...] = ()
    placement: Placement | None = None


@dataclass(frozen=True)
class Volume:
    """A volume in right-anterior-superior order.

    Attributes:
        array: [D, H, W] float32; axes run to the patient's right, front and head.
        affine: [4, 4] float64, voxel index to mm.
        source: the file it came from.
    """

    array: np.ndarray
    affine: np.ndarray
    source: Source

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel along D, H, W."""
        return spacing_of(self.affine)


def read_volume(path: Path | str) -> Volume:
    """Read one volume; every byte is checked as far as its format allows.

    The header is checked before anything is allocated, gzip is read to its end with CRC and size,
    and every voxel is finite. Integers above 2^24 and float64 lose digits in float32. Where qform
    and sform disagree by more than half a voxel: an error if both claim the same space, otherwise
    the sform is used and a warning recorded. Without either, the axes are taken as
    right-anterior-superior, with a warning. .npy and .npz hold no orientation: they are taken as
    right-anterior-superior, at 1 mm unless the .npz has `spacing` [3] or `affine` [4, 4].

    Raises:
        BadFile: not a file this reads, or not one 3-D volume of real finite numbers.
        CorruptFile: cut, altered or contradicting itself.
        UnsafeFile: symbolic link, FIFO, device, or a pickle.
        ResourceLimit: larger than 2^30 voxels, or a decompression bomb.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith((".hdr", ".img", ".hdr.gz", ".img.gz")):
        raise _refuse_pair(path)
    if not name.endswith(SUFFIXES):
        raise BadFile(f"{path}: name: not one of {', '.join(SUFFIXES)}")
    if name.endswith((".npy", ".npz")):
        return _read_array(path)
    return _read_nifti(path)


def read_spacing(path: Path | str) -> tuple[float, float, float]:
    """Millimetres per voxel in canonical order, from the header alone where the format has one.

    Raises:
        as `read_volume`, for what the header can show.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return read_volume(path).spacing
    with opened(path) as reader:
        header = parse_header(reader.read(540), str(path), reader.file_size, reader.compressed)
    sizes = spacing_of(header.affine)
    a, b, c = orientation_of(header.affine).axes
    return sizes[a], sizes[b], sizes[c]


def restore(volume: Volume, array: np.ndarray) -> np.ndarray:
    """`array` on the grid and in the axis order `volume` was stored in, bit for bit.

    Args:
        volume: what `read_volume` gave.
        array: [D, H, W] of any dtype on the volume's canonical grid.

    Returns:
        The array in the stored shape; `volume.source.affine` places it.

    Raises:
        ConfigError: the array has another shape than the volume.
    """
    if array.shape != volume.array.shape:
        raise ConfigError(f"restore: array must be {volume.array.shape}, got {array.shape}")
    return to_source(array, volume.source.orientation).reshape(volume.source.shape)


def _refuse_pair(path: Path) -> BadFile:
    stem, _, rest = path.name.rpartition(".hdr" if ".hdr" in path.name.lower() else ".img")
    halves = [path.with_name(f"{stem}{half}{rest}") for half in (".hdr", ".img")]
    missing = [str(half) for half in halves if not half.exists()]
    if missing:
        return BadFile(f"{path}: half of a header and image pair: {missing[0]} is missing")
    return BadFile(f"{path}: a header and image pair; join it into one .nii")


def _read_nifti(path: Path) -> Volume:
    with opened(path) as reader:
        start = reader.read(540)
        header = parse_header(start, str(path), reader.file_size, reader.compressed)
        if header.offset > LONGEST_EXTENSION:
            raise ResourceLimit(f"{path}: vox_offset: {header.offset} bytes before the data")
        start += reader.read(header.offset - len(start))
        early = start[header.offset :]
        start = start[: header.offset]
        if len(start) < header.offset:
            raise CorruptFile(f"{path}: vox_offset: {header.offset} is past the end of the file")
        version_end = 544 if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else 352
        extensions = walk_extensions(start, version_end - 4, str(path))
        data = early[: header.data_bytes] + reader.read(header.data_bytes - len(early))
        if len(data) < header.data_bytes:
            raise CorruptFile(
                f"{path}: data: {len(data)} bytes, the header promises {header.data_bytes}"
            )
        if len(early) > header.data_bytes:
            raise CorruptFile(f"{path}: data: bytes follow where the header says it ends")
        reader.finish()
    stored = np.frombuffer(data, header.dtype).reshape(header.shape, order="F")
    array, affine, orientation = to_canonical(_scaled(stored, header, path), header.affine)
    digest = hashlib.sha256(start)
    digest.update(data)
    source = Source(
        str(path),
        header.affine,
        orientation,
        header.shape + header.placement.trailing,
        header.dtype.name,
        header.slope,
        header.intercept,
        digest.hexdigest(),
        tuple(header.warnings),
        tuple(extensions),
        header.placement,
    )
    return Volume(array, affine, source)


def _scaled(stored: np.ndarray, header: Header, path: Path) -> np.ndarray:
    out = np.empty(stored.shape, np.float32)
    # Slice by slice, so that the float64 intermediate stays small.
    for k in range(stored.shape[2]):
        values = stored[:, :, k].astype(np.float64)
        if header.slope != 1.0 or header.intercept != 0.0:
            with np.errstate(over="ignore"):
                values = values * header.slope + header.intercept
        _require_finite(values, f"{path}: slice {k}")
        out[:, :, k] = values
    return out


def _require_finite(values: np.ndarray, where: str) -> None:
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise BadFile(f"{where}: {bad} voxels are NaN or infinite")
    if np.abs(values).max(initial=0.0) > FLOAT32_MAX:
        raise CorruptFile(f"{where}: scl_slope: voxels beyond the range of float32")


def _read_array(path: Path) -> Volume:
    affine, warnings = np.eye(4), []
    with opened(path) as reader:
        content = reader.read(reader.file_size)
        digest = hashlib.sha256(content).hexdigest()
    if path.name.lower().endswith(".npy"):
        stored = read_npy(io.BytesIO(content), len(content), str(path))
        warnings.append("no geometry in the file: 1 mm, right-anterior-superior assumed")
    else:
        arrays = read_npz(content, str(path))
        names = [n for n, a in arrays.items() if n not in ("affine", "spacing") and a.ndim >= 3]
        if len(names) != 1:
            raise BadFile(f"{path}: one array of a volume is meant, found {sorted(names)}")
        stored = arrays[names[0]]
        affine = _given_affine(arrays, path)
        if "affine" not in arrays:
            warnings.append("no orientation in the file: right-anterior-superior assumed")
    shape = stored.shape
    if len(shape) < 3 or any(extent != 1 for extent in shape[3:]) or 0 in shape:
        raise BadFile(f"{path}: shape: {shape} where a 3-D volume is meant")
    if stored.dtype.kind not in "biuf":
        raise BadFile(f"{path}: dtype: {stored.dtype} where real numbers are meant")
    if stored.size > MAX_VOXELS:
        raise ResourceLimit(f"{path}: shape: {shape} is more than {MAX_VOXELS} voxels")
    values = stored.reshape(shape[:3]).astype(np.float64)
    _require_finite(values, str(path))
    array, canonical, orientation = to_canonical(values.astype(np.float32), affine)
    source = Source(
        str(path), affine, orientation, shape, stored.dtype.name, 1.0, 0.0, digest, tuple(warnings)
    )
    return Volume(array, canonical, source)


def _given_affine(arrays: dict[str, np.ndarray], path: Path) -> np.ndarray:
    affine = np.asarray(arrays.get("affine", np.eye(4)), np.float64)
    spacing = np.asarray(arrays.get("spacing", np.ones(3)), np.float64)
    if affine.shape != (4, 4) or spacing.shape != (3,):
        raise BadFile(f"{path}: affine, spacing: [4, 4] and [3] are meant")
    if "affine" not in arrays:
        affine = np.diag([*spacing, 1.0])
    sizes = np.array(spacing_of(affine))
    if not np.isfinite(affine).all() or not ((sizes >= 1e-3) & (sizes <= 100.0)).all():
        raise CorruptFile(f"{path}: affine, spacing: not finite, or not 0.001 to 100 mm")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-2 * sizes.prod():
        raise CorruptFile(f"{path}: affine: singular")
    return affine
