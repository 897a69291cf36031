"""A file tells this before its voxels are looked at: size, name, header, compression."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastgan.arrays import Floats
from fastgan.data.formats.nifti_header import HEADER_1
from fastgan.data.stream import open_regular
from fastgan.errors import AuditError, BadFile, FastganError

__all__ = ["CONTENT", "Field", "feature_columns", "file_fields"]

Field = list[float] | list[str]

CONTENT = ("packed bytes", "compression ratio")
"""Fields of compressed files that follow from what is in the volume."""

_START = 1024  # bytes of the file's start; a NIfTI-1 header is 348
_LEVELS = 20  # of a text field that have a column of their own
# Name -> position in the fields of HEADER_1.
_TEXTS = {"descrip": 42, "aux_file": 43, "intent_name": 64}
_CODES = {"datatype": 19, "xyzt_units": 35, "qform_code": 44, "sform_code": 45}
FREE_TEXT = ("name without digits", "folder", *_TEXTS)
"""Fields that may name a patient: a report numbers their values, the most frequent first."""
_NUMBERS = {"vox_offset": 30, "scl_slope": 31, "scl_inter": 32, "cal_max": 36, "cal_min": 37}


def file_fields(files: Sequence[Path]) -> dict[str, Field]:
    """Field -> one value a file; text or numbers.

    Reads the first kilobyte of each file. Of .npy and .npz there is size, name and folder alone.

    Raises:
        AuditError: a file that cannot be read.
    """
    rows = []
    for path in files:
        try:
            rows.append(_one(Path(path)))
        except (OSError, FastganError) as error:
            raise AuditError(f"files: {error}") from None
    out: dict[str, Field] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name, "") for row in rows]
        if all(isinstance(v, float) for v in values):
            out[name] = [float(v) for v in values]
        else:
            out[name] = [str(v) for v in values]
    return out


def _one(path: Path) -> dict[str, float | str]:
    size = float(path.stat().st_size)
    packed = path.name.lower().endswith((".gz", ".npz"))
    numbers = re.findall(r"\d+", path.name)
    row: dict[str, float | str] = {
        "packed bytes" if packed else "bytes": size,
        "name without digits": re.sub(r"\d+", "#", path.name),
        "last number in the name": float(numbers[-1]) if numbers else -1.0,
        "folder": path.parent.name,
    }
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return row
    with open_regular(path) as file:
        start = file.read(_START)
    if packed:
        row |= {"gzip time": float(int.from_bytes(start[4:8], "little"))}
        row |= {"gzip level and system": start[8:10].hex()}
        try:
            start = zlib.decompressobj(wbits=31).decompress(start, _START)
        except zlib.error as error:
            raise BadFile(f"{path}: gzip: {error}") from None
    return row | _header(start, size, packed)


def _header(start: bytes, size: float, packed: bool) -> dict[str, float | str]:
    """Fields of a NIfTI-1 header; of other versions only that they are another."""
    order = "<" if start[:2] == (348).to_bytes(2, "little") else ">"
    if len(start) < HEADER_1.size or struct.unpack(order + "i", start[:4]) != (348,):
        return {"header": "not NIfTI-1"}
    layout = struct.Struct(order + HEADER_1.format)
    fields = layout.unpack(start[: layout.size])
    row: dict[str, float | str] = {"header": "NIfTI-1", "byte order": order}
    row["stored shape"] = " x ".join(str(n) for n in fields[8:11])
    row |= {f"spacing {i}": round(float(fields[22 + i]), 4) for i in (1, 2, 3)}
    row |= {name: str(fields[at]) for name, at in _CODES.items()}
    row |= {name: float(np.nan_to_num(fields[at])) for name, at in _NUMBERS.items()}
    row |= {n: fields[at].split(b"\0")[0].decode("latin-1") for n, at in _TEXTS.items()}
    if packed:
        stored = abs(float(np.prod(fields[8:11], dtype=np.float64)) * fields[20] / 8)
        row["compression ratio"] = stored / max(size, 1.0)
    return row


def feature_columns(fields: dict[str, Field]) -> tuple[Floats, list[str]]:
    """Numbers as ranks, text as one column a level: [N, F] and the field of each column.

    A field of which all values differ and which is text tells one file from another and no group;
    it is left out, as is a field of one value.
    """
    columns, names = [], []
    for name, values in fields.items():
        distinct, inverse, counts = np.unique(
            np.array(values), return_inverse=True, return_counts=True
        )
        if len(distinct) < 2:
            continue
        if isinstance(values[0], float):
            # Mean rank of ties.
            ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
            columns.append(ranks / len(values))
            names.append(name)
            continue
        for rank, level in enumerate(np.argsort(-counts, kind="stable")[:_LEVELS], 1):
            if counts[level] > 1:
                columns.append((inverse == level).astype(np.float64))
                said = str(distinct[level])[:40] or "empty"
                names.append(f"{name}, value {rank}" if name in FREE_TEXT else f"{name} = {said}")
    if not columns:
        return np.zeros((len(next(iter(fields.values()), [])), 0)), []
    return np.stack(columns, axis=1), names
