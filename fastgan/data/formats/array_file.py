"""NumPy's .npy and .npz, never unpickled, with sizes checked before anything is allocated."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from lzma import LZMAError
from typing import BinaryIO

import numpy as np

from fastgan.data.stream import require_ratio
from fastgan.errors import BadFile, CorruptFile, FastganError, ResourceLimit, UnsafeFile

__all__ = ["read_npy", "read_npz"]

MAX_BYTES = 8 << 30  # of all arrays of one archive
MAX_ENTRIES = 10_000
PLAIN = frozenset("biufcUSM")  # kinds of numbers, texts and dates, whose bytes are their values


def read_npy(file: BinaryIO, size: int, name: str) -> np.ndarray:
    """The array of a .npy stream that holds `size` bytes; `name` names it in errors.

    Raises:
        CorruptFile: no .npy, or cut, or longer than its header says.
        UnsafeFile: an array of Python objects, which is a pickle.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise BadFile(f"{name}: npy version {version} is not read")
        shape, fortran, dtype = read(file, max_header_size=10_000)
    except BadFile:
        raise
    except Exception as error:  # the header is Python source, and fails in as many ways
        raise CorruptFile(f"{name}: npy header: {str(error)[:200]}") from None
    if dtype.hasobject:
        raise UnsafeFile(f"{name}: npy: Python objects, a pickle; save plain numbers")
    if dtype.kind not in PLAIN or dtype.itemsize == 0 or dtype.subdtype is not None:
        raise BadFile(f"{name}: npy dtype: {str(dtype)[:80]} where plain numbers are meant")
    if any(type(extent) is not int or extent < 0 for extent in shape) or len(shape) > 16:
        raise CorruptFile(f"{name}: npy shape: {str(shape)[:80]} is not one of an array")
    promised = math.prod(shape) * dtype.itemsize
    if promised != size - file.tell():
        raise CorruptFile(
            f"{name}: npy data: {size - file.tell()} bytes, the header promises {promised}"
        )
    if promised > MAX_BYTES:
        raise ResourceLimit(f"{name}: npy: {promised} bytes")
    data = file.read(promised)
    if len(data) != promised:
        raise CorruptFile(f"{name}: npy data: cut short")
    try:
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError as error:  # an extent that no array has, beside one of 0
        raise CorruptFile(f"{name}: npy shape: {error}") from None


def read_npz(content: bytes, name: str) -> dict[str, np.ndarray]:
    """Every array of a .npz, each entry's CRC checked.

    Raises:
        CorruptFile: no zip, cut, a wrong CRC, or an entry that is no .npy.
        ResourceLimit: unpacks to more than 8 GiB, or like a decompression bomb.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if total > MAX_BYTES or len(entries) > MAX_ENTRIES:
                raise ResourceLimit(f"{name}: npz: {len(entries)} entries unpack to {total} bytes")
            require_ratio(f"{name}: npz", len(content), total)
            for entry in entries:
                key, dot, suffix = entry.filename.rpartition(".")
                if suffix != "npy" or not dot or key in arrays:
                    raise CorruptFile(f"{name}: npz: unexpected entry {entry.filename!r}")
                # Reading to the end is what makes zipfile compare the CRC.
                data = archive.read(entry)
                arrays[key] = read_npy(io.BytesIO(data), len(data), f"{name}[{key}]")
    except FastganError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        KeyError,
        struct.error,
    ) as error:
        raise CorruptFile(f"{name}: npz: {error}") from None
    return arrays
