"""Copies of training volumes are planted here: a test of memorization has to find them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from fastgan.arrays import Floats
from fastgan.audit.likeness.moves import MIRRORS, mirrored, moved
from fastgan.data.augment import KINDS, augment
from fastgan.measures.augmentation_limits import LARGEST_SHIFT

__all__ = [
    "BENT",
    "DEFORMED",
    "OF_MASKS",
    "SAME_POSE",
    "TRANSFORMS",
    "changed",
    "noisy",
    "transformed",
]

TRANSFORMS = (*KINDS, "shift")
"""What may be done to a copy: the augmentations that a run may use."""

SAME_POSE = ("mirrored", "gain 0.7", "gamma 1.5", "inverted contrast")
"""Changes that leave every voxel where it is, or mirror it."""
OF_MASKS = ("mirrored",)
"""Those that there are of masks, which have no brightness."""
DEFORMED = (
    "half of the volume",
    "zoomed by 1.1",
    "rotated by 15 degrees",
)
"""Changes that move voxels, or replace half of them."""
BENT = "bent by 4 % of the grid"
"""A change that moves voxels by more than one pose undoes: a single such copy may be no outlier."""

_KNOTS, _BENT = 4, 0.04


def noisy(volumes: Floats, length: float, rng: np.random.Generator) -> Floats:
    """Volumes [N, D, H, W] plus white noise of about a Euclidean length each; may leave [-1, 1]."""
    sd = length / np.sqrt(np.prod(volumes.shape[1:]))
    out: Floats = volumes + np.float32(sd) * rng.standard_normal(volumes.shape, dtype=np.float32)
    return out


def transformed(
    kind: str, volumes: Floats, rng: np.random.Generator, spacing: tuple[float, float, float]
) -> Floats:
    """Volumes [N, D, H, W], each by its own random draw of one of `TRANSFORMS`.

    A flip is any mirror image but the volume itself; a shift moves by whole voxels, up to 1/8 of
    each axis, along at least one; the others are drawn as training draws them.
    """
    out = volumes
    if kind == "flip":
        drawn = rng.integers(1, len(MIRRORS), len(volumes))
        out = np.stack([mirrored(x, int(m)) for x, m in zip(volumes, drawn, strict=True)])
    elif kind == "shift":
        most = np.maximum(1, (np.array(volumes.shape[1:]) * LARGEST_SHIFT).astype(np.int64))
        steps = rng.integers(-most, most + 1, (len(volumes), 3))
        steps[~steps.any(axis=1), 0] = 1
        out = np.stack([moved(x, step) for x, step in zip(volumes, steps, strict=True)])
    else:
        batch = torch.from_numpy(np.ascontiguousarray(volumes, dtype=np.float32))[:, None]
        out = augment(batch, [kind], rng, spacing=spacing)[0][:, 0].numpy()
    return out


def changed(kind: str, volumes: Floats, others: Floats, rng: np.random.Generator) -> Floats:
    """Volumes [N, D, H, W] after one of `SAME_POSE` or `DEFORMED`, or `BENT`.

    Brightness is that of the range, 0 at -1 and 1 at 1. Of a half copy, the other half along the
    last axis is of volumes `others` [N, D, H, W]. A rotation is about a random axis of the grid; a
    bend displaces each voxel smoothly, by 4 % of an axis along that axis (root mean square).
    """
    share = np.clip((volumes + 1) / 2, 0, 1)
    out: Floats
    match kind:
        case "mirrored":
            return transformed("flip", volumes, rng, (1.0, 1.0, 1.0))
        case "gain 0.7":
            out = 2 * 0.7 * share - 1
        case "gamma 1.5":
            out = 2 * share**1.5 - 1
        case "inverted contrast":
            out = 1 - 2 * share
        case "half of the volume":
            out, half = others.copy(), volumes.shape[3] // 2
            out[..., :half] = volumes[..., :half]
        case "zoomed by 1.1":
            out = _read(volumes, _affine(volumes, lambda: np.eye(3) / 1.1))
        case "rotated by 15 degrees":
            out = _read(volumes, _affine(volumes, lambda: _rotation(rng)))
        case _:
            out = _read(volumes, _affine(volumes, lambda: np.eye(3)) + _bends(volumes, rng))
    done: Floats = out.astype(np.float32)
    return done


def _rotation(rng: np.random.Generator) -> Floats:
    first, second = [(0, 1), (0, 2), (1, 2)][int(rng.integers(3))]
    turn = np.radians(15.0) * (1 if rng.random() < 0.5 else -1)
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(turn)
    matrix[first, second], matrix[second, first] = -np.sin(turn), np.sin(turn)
    return matrix


def _affine(volumes: Floats, draw: Callable[[], Floats]) -> torch.Tensor:
    """[N, D, H, W, 3] places in units of half an axis, last axis first."""
    size = np.array(volumes.shape[1:], dtype=np.float64)
    matrix = np.zeros((len(volumes), 3, 4), np.float32)
    for one in matrix:
        one[:, :3] = (np.diag(1 / size) @ draw() @ np.diag(size))[::-1, ::-1]
    shape = [len(volumes), 1, *volumes.shape[1:]]
    return F.affine_grid(torch.from_numpy(matrix), shape, align_corners=False)


def _bends(volumes: Floats, rng: np.random.Generator) -> torch.Tensor:
    """[N, D, H, W, 3] smooth displacements in units of half an axis."""
    knots = rng.standard_normal((len(volumes), 3, _KNOTS, _KNOTS, _KNOTS)).astype(np.float32)
    size = volumes.shape[1:]
    fine = F.interpolate(torch.from_numpy(knots), size, mode="trilinear", align_corners=True)
    spread = fine.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()
    return (2 * _BENT * fine / spread).permute(0, 2, 3, 4, 1)


def _read(volumes: Floats, places: torch.Tensor) -> Floats:
    """Volumes read at places [N, D, H, W, 3], the border going on outside."""
    batch = torch.from_numpy(np.ascontiguousarray(volumes, dtype=np.float32))[:, None]
    read = F.grid_sample(batch, places, padding_mode="border", align_corners=False)
    out: Floats = read[:, 0].numpy()
    return out
