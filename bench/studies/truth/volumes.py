"""What the laws draw with: random fields of a power law, smooth deformation, resampling."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from fastgan.arrays import Floats

__all__ = ["axis_turns", "bent", "blobs", "fields", "grid", "resampled", "turns"]

BATCH = 64


def fields(count: int, size: int, exponent: float, rng: np.random.Generator) -> Floats:
    """[N, S, S, S] Gaussian random fields of mean 0 and variance 1, power k^-exponent.

    Flat below one and a half waves a volume, so that no field is an offset of the whole volume.
    """
    full, half = np.fft.fftfreq(size), np.fft.rfftfreq(size)
    wave = np.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)
    gain = np.maximum(wave, 1.5 / size) ** (-exponent / 2)
    gain[0, 0, 0] = 0.0
    out = np.empty((count, size, size, size), np.float32)
    for start in range(0, count, BATCH):
        part = slice(start, min(start + BATCH, count))
        white = rng.standard_normal((part.stop - start, size, size, size), dtype=np.float32)
        spectrum = torch.fft.rfftn(torch.from_numpy(white), dim=(1, 2, 3))
        spectrum = spectrum * torch.from_numpy(gain.astype(np.float32))
        out[part] = torch.fft.irfftn(spectrum, s=(size,) * 3, dim=(1, 2, 3)).numpy()
    # The same scale for all: a field of its own variance would be known by it.
    power = np.square(gain)
    twice = np.full(len(half), 2.0)
    twice[0] = 1.0
    if size % 2 == 0:
        twice[-1] = 1.0
    scale = np.sqrt(float((power * twice).sum()) / size**3)
    out /= np.float32(scale)
    return out


def bent(count: int, size: int, rms: float, rng: np.random.Generator, waves: float = 3.0) -> Floats:
    """[N, 3, S, S, S] smooth displacements in voxels, `rms` on average along each axis.

    Args:
        count: N.
        size: S.
        rms: root mean square along one axis, voxels; or [N].
        rng: random numbers.
        waves: knots along an axis, less one.
    """
    knots = int(waves) + 1
    coarse = rng.standard_normal((count, 3, knots, knots, knots)).astype(np.float32)
    out = np.empty((count, 3, size, size, size), np.float32)
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        fine = F.interpolate(
            torch.from_numpy(coarse[part]), (size,) * 3, mode="trilinear", align_corners=True
        )
        out[part] = fine.numpy()
    spread = np.sqrt(np.square(out).mean(axis=(1, 2, 3, 4), keepdims=True))
    amount = np.broadcast_to(np.asarray(rms, np.float32), (count,)).reshape(-1, 1, 1, 1, 1)
    out *= amount / np.maximum(spread, 1e-6)
    return out


def grid(size: int) -> Floats:
    """[3, S, S, S] voxels from the middle along D, H, W."""
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))


def resampled(
    volumes: Floats,
    matrix: Floats | None = None,
    shift: Floats | None = None,
    displacement: Floats | None = None,
    fill: float | None = None,
) -> Floats:
    """Volumes read at matrix @ x + shift + displacement, trilinear, x in voxels from the middle.

    Args:
        volumes: [N, S, S, S].
        matrix: [N, 3, 3] or [3, 3].
        shift: [N, 3] voxels.
        displacement: [N, 3, S, S, S] voxels.
        fill: value outside; None continues the border.
    """
    count, size = len(volumes), volumes.shape[1]
    base = grid(size).reshape(3, -1)
    matrix = np.broadcast_to(np.eye(3) if matrix is None else matrix, (count, 3, 3))
    shift = np.zeros((count, 3)) if shift is None else shift
    out = np.empty(volumes.shape, np.float32)
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        at = matrix[part].astype(np.float32) @ base + shift[part].astype(np.float32)[..., None]
        if displacement is not None:
            at = at + displacement[part].reshape(len(at), 3, -1)
        # grid_sample wants W, H, D in [-1, 1].
        place = (at[:, ::-1] * (2 / (size - 1))).transpose(0, 2, 1).reshape(-1, size, size, size, 3)
        source = torch.from_numpy(np.ascontiguousarray(volumes[part], np.float32))[:, None]
        moved = F.grid_sample(
            source - (fill or 0.0),
            torch.from_numpy(np.ascontiguousarray(place, np.float32)),
            padding_mode="border" if fill is None else "zeros",
            align_corners=True,
        )
        out[part] = moved[:, 0].numpy() + np.float32(fill or 0.0)
    return out


def turns(count: int, degrees: float, rng: np.random.Generator) -> Floats:
    """[N, 3, 3] rotations about random axes by angles normal with that deviation."""
    axis = rng.standard_normal((count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return _rotation(axis, np.radians(degrees) * rng.standard_normal(count))


def _rotation(axis: Floats, angle: Floats) -> Floats:
    """Rodrigues' formula."""
    zero = np.zeros(len(axis))
    x, y, z = axis.T
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    out: Floats = np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
    return out


def axis_turns(count: int, rng: np.random.Generator) -> Floats:
    """[N, 3, 3] of the 48 ways to turn and mirror a cube, at random."""
    out = np.zeros((count, 3, 3))
    for i in range(count):
        out[i, np.arange(3), rng.permutation(3)] = rng.choice([-1.0, 1.0], 3)
    return out


def blobs(
    size: int, centre: Floats, radius: Floats, roughness: Floats, surface: Floats, edge: float = 0.6
) -> Floats:
    """Lesions [N, S, S, S] in [0, 1]: balls whose radius is r (1 + roughness x field).

    Args:
        size: S.
        centre: [N, 3] voxels from the middle.
        radius: [N] voxels.
        roughness: [N].
        surface: [N, S, S, S] field of variance 1.
        edge: voxels over which it fades.
    """
    distance = np.sqrt(np.square(grid(size)[None] - centre[:, :, None, None, None]).sum(axis=1))
    reach = radius[:, None, None, None] * (1 + roughness[:, None, None, None] * surface)
    out: Floats = 1 / (1 + np.exp(np.clip((distance - reach) / edge, -30, 30)))
    return out.astype(np.float32)
