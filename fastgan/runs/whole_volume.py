"""A translator applied to one file's volume: to the training grid, through it, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.data.normalise import Normalisation, denormalise, normalise, on_grid, record_like
from fastgan.data.resample import resample, resampled_shape
from fastgan.data.volume import Volume, restore
from fastgan.errors import ConfigError, FastganError
from fastgan.runs.sliding_window import check_fit, sliding_window

__all__ = ["Domain", "Translated", "check_volume", "translate_volume"]


@dataclass(frozen=True)
class Domain:
    """What a run recorded of one of its data sets.

    Attributes:
        shape: (D, H, W) the networks were trained on.
        spacing: mm along D, H, W.
        channels: C.
        normalisation: record with "modality", "low", "high" and "method".
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: int
    normalisation: Normalisation

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Domain:
        """From the content of a run's data.json, or of its key "b"."""
        (d, h, w), (along_d, along_h, along_w) = data["shape"], data["spacing"]
        spacing = (along_d, along_h, along_w)
        return cls((d, h, w), spacing, data["channels"], data["normalisation"])


@dataclass(frozen=True)
class Translated:
    """One volume and its translation.

    Attributes:
        array: the translation as the file would store it: its three extents and axis order,
            float32 in units of the target domain.
        source: [D, H, W] float32 in [-1, 1], what the translator saw.
        result: [D, H, W] float32 in [-1, 1], what it made of it.
        record: how the source was normalised.
        resampled: whether the grids differ by more than flips and the order of axes.
        padded: whether the source was smaller than the window and mirrored at its edges.
    """

    array: np.ndarray
    source: np.ndarray
    result: np.ndarray
    record: Normalisation
    resampled: bool
    padded: bool


def check_volume(volume: Volume, source: Domain, *, pad: bool = False) -> Normalisation:
    """The record of a volume's normalisation, if it can be translated.

    Raises:
        BadFile: a constant volume, or values its modality cannot have.
        ConfigError: smaller than the window, without `pad`; a domain of several channels.
        ResourceLimit: too many voxels at the training spacing.
    """
    path = volume.source.path
    if source.channels != 1:
        raise ConfigError(
            f"{path}: holds one channel, the networks were trained on {source.channels}"
        )
    record = record_like(volume, source.normalisation)
    try:
        extents = resampled_shape(volume.array.shape, volume.spacing, source.spacing)
    except FastganError as error:
        raise type(error)(f"{path}: {error}") from None
    if not pad:
        check_fit(extents, source.shape, path)
    return record


def translate_volume(
    network: Callable[[Tensor], Tensor],
    volume: Volume,
    source: Domain,
    target: Domain,
    *,
    overlap: float = 0.5,
    batch: int = 4,
    pad: bool = False,
    device: torch.device | str = "cpu",
) -> Translated:
    """Normalise, resample, translate by windows, and undo all of it on the way out.

    Nothing is interpolated where the volume has the training spacing; otherwise the translation
    is resampled back to the volume's own grid.

    Args:
        network: [B, 1, d, h, w] in [-1, 1] to the same, for windows of the source's shape.
        volume: what `read_volume` gave.
        source: of the volume.
        target: of the translation. Where each of its volumes had a range of its own (MR), the
            units are those of the set's median range.
        overlap: share that neighbouring windows have in common.
        batch: windows at a time.
        pad: mirror a volume smaller than the window at its edges, and crop back.
        device: where the network is.

    Raises:
        as `check_volume` and `sliding_window`.

    Cost: as `sliding_window`; memory for some eight float32 volumes.
    """
    record = check_volume(volume, source, pad=pad)
    plain, affine = resample(normalise(volume.array, record), volume.affine, source.spacing)
    seen = on_grid(plain, record, source.spacing)
    result = sliding_window(
        network,
        torch.from_numpy(seen)[None],
        source.shape,
        overlap=overlap,
        batch=batch,
        pad=pad,
        device=device,
        name=volume.source.path,
    )
    if result.shape[0] != 1:
        raise ConfigError(f"translator: must give 1 channel, got {result.shape[0]}")
    made = result[0].clamp(-1.0, 1.0).numpy()
    back, _ = resample(made, affine, volume.spacing, volume.array.shape)
    stored = restore(volume, denormalise(back, target.normalisation))
    return Translated(
        array=stored.reshape(volume.source.shape[:3]),
        source=seen,
        result=made,
        record=record,
        resampled=not np.array_equal(affine, volume.affine),
        padded=_smaller(seen.shape, source.shape),
    )


def _smaller(extents: Sequence[int], window: Sequence[int]) -> bool:
    return any(length < size for length, size in zip(extents, window, strict=True))
