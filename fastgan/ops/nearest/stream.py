"""Nearest neighbours among targets that lie in a file larger than memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import BadFile, ConfigError, CorruptFile
from fastgan.ops.checks import require
from fastgan.ops.implementations import dispatch
from fastgan.ops.nearest.search import Groups, check_enough, check_groups, check_rows, report_bad

__all__ = ["nearest_stream"]

_DTYPES = ("float64", "float32", "float16", "int16", "int8", "uint8")


def nearest_stream(
    query: Tensor,
    target: str | Path | np.memmap,
    k: int = 1,
    *,
    exclude: Groups | None = None,
    chunk_bytes: int = 256 * 2**20,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """`fastgan.ops.nearest` with targets in a file, of which two chunks are in memory at a time.

    The file is read, never mapped: one that shrinks meanwhile is an error, where a mapping would
    end the process. The next chunk is read while one is searched.

    Args:
        query: [N, ...], N >= 1.
        target: [M, ...] in a .npy file, by its path or as a numpy.memmap of any raw file; C order,
            native byte order, dtype of query.
        k: neighbours for each query, 1 <= k <= M.
        exclude: group numbers of the queries [N] and of the targets [M], as in `nearest`.
        chunk_bytes: of the file held at a time; at least one row is.
        progress: called with the targets done and M after each chunk.

    Returns:
        distance: [N, k] float64, Euclidean. index: [N, k] int64 into target. The same as from
        `nearest` on the whole, for every chunk_bytes.

    Raises:
        BadFile: target is missing, unreadable, no .npy file, or of a dtype or order that cannot be
            read so.
        CorruptFile: the file is shorter than its header or mapping says, or gets so meanwhile.
        ConfigError: as `nearest`.

    Derivatives: none.
    Deterministic: yes, independent of chunk_bytes, thread count and query split.
    Cost: one read of the file; the arithmetic of `nearest`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/rows.npy", np.array([[3.0], [1.0], [-1.0]], np.float32))
    ...     nearest_stream(torch.tensor([[0.0]]), folder + "/rows.npy", k=2)
    (tensor([[1., 1.]], dtype=torch.float64), tensor([[1, 2]]))
    """
    require(chunk_bytes >= 1, "nearest_stream", "chunk_bytes must be at least 1", chunk_bytes)
    with closing(_Rows(target)) as rows:
        return _search(query, rows, k, exclude, chunk_bytes, progress)


def _search(
    query: Tensor,
    rows: _Rows,
    k: int,
    exclude: Groups | None,
    chunk_bytes: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Tensor, Tensor]:
    total = rows.shape[0]
    check_rows(query, torch.empty((1, *rows.shape[1:]), dtype=rows.dtype, device=query.device))
    require(1 <= k <= total, "nearest", f"k must be 1 to M = {total}", k)
    query = query.detach().flatten(1)
    groups = None if exclude is None else check_groups(exclude, query, total)
    module = dispatch.module("nearest", query)
    key = query.new_full((len(query), k), torch.inf, dtype=torch.float64)
    index = torch.full_like(key, -1, dtype=torch.int64)
    bad_query = query.new_zeros(len(query), dtype=torch.bool)
    bad_target = query.new_zeros(total, dtype=torch.bool)
    for start, chunk in _ahead(rows, chunk_bytes):
        part = slice(start, start + len(chunk))
        own = None if groups is None else (groups[0], groups[1][part])
        found = module.nearest(query, chunk.to(query.device), min(k, len(chunk)), own)
        keys, indices, bad_query, bad_target[part] = found
        # NaN marks that nothing is left; behind everything, like what nothing was found for yet.
        keys = keys.masked_fill(indices < 0, torch.inf)
        indices = torch.where(indices < 0, indices, indices + start)
        # Earlier targets stand first, and a stable sort leaves them there on ties.
        key, order = torch.cat((key, keys), 1).sort(dim=1, stable=True)
        index = torch.cat((index, indices), 1).gather(1, order)
        # What is no neighbour must not stand before one at an infinite distance.
        real = (index < 0).long().argsort(dim=1, stable=True)
        key, index = key.gather(1, real)[:, :k], index.gather(1, real)[:, :k]
        if progress is not None:
            progress(start + len(chunk), total)
    report_bad(bad_query, bad_target)
    check_enough(k, bad_query, bad_target, groups)
    distance = module.distance_of(key, query.dtype)
    return distance.masked_fill(index < 0, torch.nan), index


def _ahead(rows: _Rows, chunk_bytes: int) -> Iterator[tuple[int, Tensor]]:
    """Chunks of rows and where they start; one is read while the one before is used."""
    size = max(1, chunk_bytes // rows.row_bytes)
    starts = range(0, rows.shape[0], size)
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(rows.read, 0, size)
        for start in starts:
            chunk = following.result()
            if start + size < rows.shape[0]:
                following = reader.submit(rows.read, start + size, size)
            yield start, chunk


class _Rows:
    """Rows of an array in a file, read on demand."""

    def __init__(self, target: str | Path | np.memmap) -> None:
        if isinstance(target, np.memmap):
            if target.filename is None or not target.flags.c_contiguous:
                raise BadFile("nearest_stream: the memmap must be C-contiguous and have a file")
            base = target
            # A slice of a memmap keeps its parent's offset, so the distance in memory is added.
            while isinstance(base.base, np.memmap):
                base = base.base
            moved = target.__array_interface__["data"][0] - base.__array_interface__["data"][0]
            self.path, self.offset = Path(target.filename), int(base.offset) + moved
            dtype, self.shape = target.dtype, tuple(target.shape)
        else:
            self.path = Path(target)
            dtype, self.shape, self.offset = _npy_header(self.path)
        if dtype.name not in _DTYPES or not dtype.isnative:
            raise BadFile(
                f"{self.path}: dtype must be one of {', '.join(_DTYPES)}, got {dtype.str}"
            )
        if len(self.shape) < 2 or 0 in self.shape:
            raise ConfigError(
                f"nearest: target must be [M, ...] and not empty, got {list(self.shape)}"
            )
        self.dtype: torch.dtype = getattr(torch, dtype.name)
        self.row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * dtype.itemsize
        self._numpy = dtype
        try:
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 closed by close()
        except OSError as error:
            raise BadFile(f"{self.path}: cannot be read: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()

    def read(self, start: int, count: int) -> Tensor:
        """Rows [start, start + count), fewer at the end."""
        count = min(count, self.shape[0] - start)
        size = os.fstat(self._file.fileno()).st_size
        needed = self.offset + self.shape[0] * self.row_bytes
        if size < needed:
            raise CorruptFile(f"{self.path}: {size} bytes, but {needed} belong to its targets")
        data = np.empty((count, *self.shape[1:]), self._numpy)
        view = data.reshape(-1).view(np.uint8).data
        position, done = self.offset + start * self.row_bytes, 0
        while done < len(view):
            try:
                got = os.preadv(self._file.fileno(), [view[done:]], position + done)
            except OSError as error:
                raise BadFile(f"{self.path}: cannot be read: {error.strerror}") from error
            if got == 0:
                raise CorruptFile(f"{self.path}: ends at byte {position + done}, cut while read")
            done += got
        return torch.from_numpy(data).flatten(1)


def _npy_header(path: Path) -> tuple[np.dtype, tuple[int, ...], int]:
    """Dtype, shape and where the data begin."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read is None:
                raise BadFile(f"{path}: .npy version {version} is not known")
            shape, fortran, dtype = read(file)
            if fortran and len(shape) > 1:
                raise BadFile(f"{path}: must be in C order, is in Fortran order")
            return dtype, shape, file.tell()
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(f"{path}: no .npy file: {error}") from error
