"""A network of one window applied to a whole volume, its windows blended."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ConfigError, NumericsError, ResourceLimit
from fastgan.ops.tensor_float import tensor_float32

__all__ = ["check_fit", "sliding_window", "window_starts", "window_weights"]

AXES = "DHW"
# Of the window's extent: the weight at the edge is then 3e-4 of the middle's, so that what a
# network makes of its padding hardly shows, and half-overlapping windows still blend smoothly.
SIGMA = 0.125


def sliding_window(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    window: tuple[int, int, int],
    *,
    overlap: float = 0.5,
    batch: int = 4,
    pad: bool = False,
    device: torch.device | str = "cpu",
    name: str = "volume",
) -> Tensor:
    """Apply `network` to overlapping windows and blend them, Gaussian-weighted, without seams.

    out = sum_i w_i network(x_i) over the windows i, where sum_i w_i = 1 at every voxel. The
    weights are products of one factor per axis and so is their sum: each is divided by it
    beforehand, and no volume of weights is kept.

    Args:
        network: [B, C, d, h, w] on `device` to [B, C', d, h, w] of the same extents, where
            (d, h, w) is the window. Called without gradients.
        volume: [C, D, H, W] float32 on the CPU; not changed.
        window: extents the network sees, those it was trained on.
        overlap: share of the window that neighbours have in common, to a voxel; 0 <= overlap < 1.
        batch: windows at a time; halved when the device's memory does not suffice.
        pad: mirror a volume at its edges where it is smaller than the window, and crop back.
        device: where the network is.
        name: of the volume, for messages.

    Returns:
        [C', D, H, W] float32 on the CPU.

    Raises:
        ConfigError: a volume smaller than the window without `pad`; settings out of range; an
            output of other extents.
        NumericsError: NaN or infinity in the output.
        ResourceLimit: not even one window fits into the device's memory.

    Deterministic: as `network` is; the order of summation does not depend on `batch`.
    Cost: about (1 - overlap)^-3 times the voxels through the network; memory for one output
        volume and `batch` windows.

    >>> volume = torch.rand(1, 20, 12, 9)
    >>> bool((sliding_window(lambda x: x, volume, (8, 8, 8)) - volume).abs().max() < 1e-6)
    True
    """
    if volume.ndim != 4 or 0 in volume.shape:
        raise ConfigError(f"{name}: volume must be [C, D, H, W], got {tuple(volume.shape)}")
    if len(window) != 3 or min(window) < 1:
        raise ConfigError(f"{name}: window must be three extents >= 1, got {window}")
    if not 0.0 <= overlap < 1.0:
        raise ConfigError(f"overlap: must be at least 0 and below 1, got {overlap}")
    if batch < 1:
        raise ConfigError(f"batch: must be at least 1, got {batch}")
    extents = tuple(volume.shape[1:])
    if not pad:
        check_fit(extents, window, name)
    before = [max(size - length, 0) // 2 for length, size in zip(extents, window, strict=True)]
    for axis, (length, size) in enumerate(zip(extents, window, strict=True)):
        if length < size:
            mirrored = _mirrored(length, size, before[axis])
            volume = volume.index_select(axis + 1, mirrored)
    out = _blend(network, volume.float(), window, overlap, batch, torch.device(device), name)
    kept = tuple(slice(b, b + length) for b, length in zip(before, extents, strict=True))
    out = out[(slice(None), *kept)]
    if not bool(torch.isfinite(out).all()):
        raise NumericsError(f"{name}: the network gives NaN or infinity")
    return out.contiguous()


def check_fit(extents: Sequence[int], window: Sequence[int], name: str) -> None:
    """Raise a ConfigError that names the first axis along which a window does not fit."""
    for axis, length, size in zip(AXES, extents, window, strict=True):
        if length < size:
            raise ConfigError(
                f"{name}: axis {axis} has {length} voxels at the training spacing, the window has "
                f"{size}; train with a smaller shape, or mirror the volume at its edges with --pad"
            )


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """First voxel of each window along an axis: from 0 to length - size, evenly spread."""
    step = max(1.0, size * (1.0 - overlap))
    count = math.ceil((length - size) / step) + 1
    if count == 1:
        return [0]
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def window_weights(length: int, size: int, starts: Sequence[int]) -> list[np.ndarray]:
    """[size] float32 of each window along an axis; they sum to 1 at each of `length` voxels."""
    offset = (np.arange(size) - 0.5 * (size - 1)) / (SIGMA * size)
    bell = np.exp(-0.5 * offset**2)
    total = np.zeros(length)
    for start in starts:
        total[start : start + size] += bell
    return [(bell / total[start : start + size]).astype(np.float32) for start in starts]


def _blend(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    window: tuple[int, int, int],
    overlap: float,
    batch: int,
    device: torch.device,
    name: str,
) -> Tensor:
    axes = []
    for length, size in zip(volume.shape[1:], window, strict=True):
        starts = window_starts(length, size, overlap)
        weights = map(torch.from_numpy, window_weights(length, size, starts))
        axes.append(list(zip(starts, weights, strict=True)))
    places = list(itertools.product(*axes))
    out: Tensor | None = None
    done = 0
    while done < len(places):
        group = places[done : done + batch]
        boxes = [
            (slice(None), *(slice(s, s + n) for (s, _), n in zip(place, window, strict=True)))
            for place in group
        ]
        try:
            with torch.no_grad(), tensor_float32(False):
                made = network(torch.stack([volume[box] for box in boxes]).to(device))
            made = made.to("cpu", torch.float32)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise ResourceLimit(
                    f"{name}: one window of {window} does not fit into the memory of {device}"
                ) from None
            batch = min(batch, len(group)) // 2 or 1
            continue
        if made.ndim != 5 or made.shape[0] != len(group) or tuple(made.shape[2:]) != window:
            d, h, w = window
            raise ConfigError(
                f"{name}: the network must give [B, C, {d}, {h}, {w}], got {tuple(made.shape)}"
            )
        if out is None:
            out = torch.zeros(made.shape[1], *volume.shape[1:])
        for box, place, piece in zip(boxes, _weights(group), made, strict=True):
            out[box] += piece * place
        done += len(group)
    assert out is not None
    return out


def _weights(group: Sequence[tuple[tuple[int, Tensor], ...]]) -> list[Tensor]:
    """[d, h, w] weight of each window of a group, the product of its axes' factors."""
    return [d[:, None, None] * h[:, None] * w for (_, d), (_, h), (_, w) in group]


def _mirrored(length: int, size: int, before: int) -> Tensor:
    """Voxel each of `size` padded voxels repeats: edges mirrored, the edge voxel included."""
    index = torch.arange(-before, size - before) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)
