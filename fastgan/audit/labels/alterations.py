"""Volumes are altered here to see whether their label survives: harmlessly, or destroying it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastgan.arrays import Floats
from fastgan.audit.likeness.moves import moved
from fastgan.data.augment import KINDS, Strength, augment
from fastgan.errors import AuditError
from fastgan.measures.augmentation_limits import BRIGHTNESS, CONTRAST, LARGEST_SHIFT

__all__ = [
    "AUGMENTATIONS",
    "DESTROYERS",
    "alter",
    "destroy",
    "interpolated",
    "shifted",
    "smoothed",
    "wobbled",
]

AIR = -1.0
AUGMENTATIONS = {
    "flip": "mirrored left to right",
    "rotate": "turned by up to 10 degrees about each axis",
    "scale": "zoomed by up to 10 %",
    "intensity": "brightness and contrast changed a little",
    "elastic": "bent by about a voxel",
    "shift": "moved by up to an eighth of each axis",
    "mirror": "mirrored along any of the three axes",
    "contrast": "contrast changed by up to 20 %, brightness by up to a tenth of the range",
}
"""Name -> what it does. The first five are `data.augment.KINDS`; "shift", and in stronger form
"mirror" and "contrast", are the differentiable ones of a critic."""

DESTROYERS = {
    "margin smoothed away": "smoothed by a Gaussian of a tenth of the shortest axis",
    "only the core kept": "everything but the middle sixth of each axis replaced by the background",
    "lesion erased": "a mask emptied; of other volumes, the middle three quarters of each axis",
}
"""Controls: name -> what is lost. Each must be found to change labels."""

SMOOTHING, CORE, LESION = 1 / 10, 1 / 6, 3 / 4  # of an axis
WOBBLE_NOISE = 0.01  # of the range of 2, sd: below what any scanner or mask can tell


def alter(
    name: str, values: Floats, rng: np.random.Generator, spacing: tuple[float, float, float]
) -> Floats:
    """Volumes after one draw of an augmentation each.

    A flip or mirror always happens here, since half of the volumes unchanged would halve its rate.

    Args:
        name: key of AUGMENTATIONS.
        values: [N, D, H, W] in [-1, 1].
        rng: of the parameters.
        spacing: mm along D, H, W.

    Returns:
        [N, D, H, W] float32.

    Raises:
        AuditError: an unknown name.
    """
    if name in KINDS:
        always = Strength(flip=1.0)
        volumes = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[:, None]
        return augment(volumes, [name], rng, always, spacing)[0][:, 0].numpy()
    if name == "shift":
        return np.stack([shifted(v, rng) for v in values]).astype(np.float32)
    if name == "mirror":
        return np.stack([_mirrored(v, rng) for v in values]).astype(np.float32)
    if name == "contrast":
        size = (len(values), 1, 1, 1)
        return (values * rng.uniform(*CONTRAST, size) + rng.uniform(*BRIGHTNESS, size)).astype(
            np.float32
        )
    raise AuditError(f"labels: augmentation {name!r} is not one of {', '.join(AUGMENTATIONS)}")


def wobbled(values: Floats, rng: np.random.Generator) -> Floats:
    """Volumes moved by a part of a voxel, back again, with faint noise: nothing a label rests on.

    What remains of the moves is the blur of two linear interpolations, at most that of half a
    voxel. Shapes and dtype as `alter`.
    """
    fractions = rng.uniform(0.0, 0.5, (len(values), 3))
    noise = WOBBLE_NOISE * rng.standard_normal(values.shape, dtype=np.float32)
    blurred = interpolated(interpolated(values, fractions), -fractions)
    return np.clip(blurred + noise, -1.0, 1.0).astype(np.float32)


def interpolated(values: Floats, voxels: Floats) -> Floats:
    """Volumes read `voxels` [N, 3] further on, |.| <= 1, linearly; the edge goes on outside."""
    out = np.asarray(values, dtype=np.float32)
    for axis in range(3):
        step = np.asarray(voxels, dtype=np.float32)[:, axis, None, None, None]
        edge = np.take(out, [-1], axis + 1), np.take(out, [0], axis + 1)
        keep = [slice(None)] * 4
        keep[axis + 1] = slice(1, None)
        after = np.concatenate([out[tuple(keep)], edge[0]], axis + 1)
        keep[axis + 1] = slice(None, -1)
        before = np.concatenate([edge[1], out[tuple(keep)]], axis + 1)
        share = np.abs(step)
        out = (1.0 - share) * out + share * np.where(step > 0.0, after, before)
    return out


def destroy(name: str, values: Floats, modality: str) -> Floats:
    """Volumes without what labels rest on.

    Args:
        name: key of DESTROYERS.
        values: [N, D, H, W] in [-1, 1].
        modality: of the evidence. A mask is the lesion; elsewhere it is taken to lie inside.
    """
    background = _background(values, modality)
    if name == "margin smoothed away":
        return smoothed(values, SMOOTHING * min(values.shape[1:]))
    inside = np.zeros(values.shape[1:], dtype=bool)
    kept = CORE if name == "only the core kept" else LESION
    sides: list[int] = list(inside.shape)
    middle = [slice(round(n * (1 - kept) / 2), round(n * (1 + kept) / 2)) for n in sides]
    inside[tuple(middle)] = True
    if name == "only the core kept":
        inside = ~inside
    elif modality == "mask":
        inside[:] = True
    return np.where(inside, background, values).astype(np.float32)


def smoothed(values: Floats, sd: float) -> Floats:
    """Volumes after a Gaussian of `sd` voxels along each axis; the edge goes on outside."""
    reach = int(np.ceil(3 * sd))
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
    weight = (weight / weight.sum()).astype(np.float32)
    out = np.asarray(values, dtype=np.float32)
    for axis in (1, 2, 3):
        n = out.shape[axis]
        # A matrix product per axis; weights beyond the edge fall on the edge.
        at = np.clip(np.arange(n)[:, None] + np.arange(-reach, reach + 1), 0, n - 1)
        matrix = np.zeros((n, n), np.float32)
        np.add.at(matrix, (np.repeat(np.arange(n), len(weight)), at.ravel()), np.tile(weight, n))
        out = np.moveaxis(np.moveaxis(out, axis, -1) @ matrix.T, -1, axis)
    return out


def _background(values: Floats, modality: str) -> Floats:
    """[N, 1, 1, 1] air of masks, else the median of a volume's six faces."""
    if modality == "mask":
        return np.full((len(values), 1, 1, 1), AIR, np.float32)
    faces: Sequence[Floats] = [
        np.take(values, [0, -1], axis).reshape(len(values), -1) for axis in (1, 2, 3)
    ]
    level: Floats = np.median(np.concatenate(faces, axis=1), axis=1)
    return level[:, None, None, None]


def shifted(volume: Floats, rng: np.random.Generator) -> Floats:
    """A volume [D, H, W] moved by whole voxels, up to an eighth of each axis; air comes in."""
    most = [int(n * LARGEST_SHIFT) for n in volume.shape]
    return moved(volume, tuple(-int(rng.integers(-m, m + 1)) for m in most))


def _mirrored(volume: Floats, rng: np.random.Generator) -> Floats:
    pattern = int(rng.integers(1, 8))
    turned: Floats = np.flip(volume, tuple(axis for axis in range(3) if pattern >> axis & 1))
    return turned
