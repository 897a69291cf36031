"""Phantoms are made of these: lung texture, the blur of a kernel, balls with spikes."""

from __future__ import annotations

import numpy as np
import torch

from fastgan.arrays import Floats

__all__ = ["blurred", "lung_texture", "spiculated_balls"]


def _frequency(size: int) -> torch.Tensor:
    """[D, H, W/2 + 1] cycles per voxel."""
    full, half = torch.fft.fftfreq(size), torch.fft.rfftfreq(size)
    return torch.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)


def lung_texture(white: Floats) -> Floats:
    """Unit-variance fields with the power law of lung, k^-3, from white noise [N, D, H, W].

    Source: Burgess 1999, "Mammographic structure" (power spectra of anatomical background).
    """
    size = white.shape[-1]
    frequency = _frequency(size)
    # Flat below two cycles per volume: slower waves would be an offset of the whole volume.
    gain = torch.clamp(frequency, min=2.0 / size) ** -1.5
    gain[0, 0, 0] = 0.0
    weight = torch.full_like(gain, 2.0)
    weight[..., 0] = 1.0
    if size % 2 == 0:
        weight[..., -1] = 1.0
    gain = gain / torch.sqrt((weight * gain**2).sum() / size**3)
    spectrum = torch.fft.rfftn(torch.from_numpy(white), dim=(1, 2, 3)) * gain
    out: Floats = torch.fft.irfftn(spectrum, s=white.shape[1:], dim=(1, 2, 3)).numpy()
    return out


def blurred(volumes: Floats, voxels: float) -> Floats:
    """Cubes [..., D, H, W] convolved with a Gaussian whose standard deviation is `voxels`."""
    if voxels == 0.0 or not volumes.size:
        return volumes
    kernel = torch.exp(-2 * (torch.pi * voxels * _frequency(volumes.shape[-1])) ** 2)
    spectrum = torch.fft.rfftn(torch.from_numpy(volumes), dim=(-3, -2, -1))
    smooth = torch.fft.irfftn(spectrum * kernel, s=volumes.shape[-3:], dim=(-3, -2, -1))
    out: Floats = smooth.numpy()
    return out


def spiculated_balls(
    size: int, step: float, centre: Floats, radius: Floats, spiculation: Floats, spikes: Floats
) -> Floats:
    """Balls with spikes: radius(u) = r (1 + s sum_k exp(12 (u.v_k - 1))).

    Args:
        size: voxels along each axis.
        step: mm per voxel.
        centre: [N, 3] voxels from the middle.
        radius: [N] mm.
        spiculation: [N] s.
        spikes: [N, K, 3] unit vectors v.

    Returns:
        [N, D, H, W] float32 in [0, 1]; the edge is a ramp of one voxel.
    """
    axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * step
    out = np.zeros((len(centre), size, size, size), dtype=np.float32)
    for i in range(len(centre)):
        # Only the box that the longest spike reaches.
        reach = radius[i] * (1 + 1.5 * spiculation[i]) + step
        near = [np.nonzero(np.abs(axis - c * step) <= reach)[0] for c in centre[i]]
        offset = np.stack(
            np.meshgrid(
                *[axis[n] - c * step for n, c in zip(near, centre[i], strict=True)], indexing="ij"
            ),
            axis=-1,
        ).astype(np.float32)
        distance = np.linalg.norm(offset, axis=-1)
        surface = np.full(distance.shape, radius[i], dtype=np.float32)
        if spiculation[i]:
            cosine = (offset / np.maximum(distance, 1e-3)[..., None]) @ spikes[i].T.astype(
                np.float32
            )
            surface *= 1 + spiculation[i] * np.minimum(np.exp(12 * (cosine - 1)).sum(-1), 1.5)
        out[i][np.ix_(*near)] = np.clip(0.5 + (surface - distance) / step, 0.0, 1.0)
    return out
