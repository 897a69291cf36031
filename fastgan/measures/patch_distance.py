"""How far are translated volumes from real ones? Small patches tell, without pairs.

The histogram of intensities does not say whether the right tissue is bright: white matter painted
as grey matter can have it exactly. Patches do: cortex is a bright sheet between two dark sides,
white matter a thick lump. Two unpaired sets of one domain have the same patches, whatever the
patients, as far as they show the same part of the body.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.random import Draws

__all__ = ["patch_distance"]

TINY = 1e-12


def patch_distance(
    x: Tensor,
    y: Tensor,
    *,
    size: int = 5,
    scales: int = 2,
    patches: int = 16384,
    projections: int = 64,
    seed: int = 0,
) -> Tensor:
    """Sliced Wasserstein distance of order 1 between the patches of two sets of volumes.

    With p, q the size^3 patches of x and of y, and t uniform on the unit sphere:

        mean over t of W1(<p, t>, <q, t>) / s(t),

    s(t) the standard deviation of the projections of both sets together, of equal weight; and the
    mean of this over the scales: the volumes, their averages over blocks of 2^3, of 4^3. 0 for
    equal sets, 2 for constants that differ. Sets of different patients, or places, have a
    distance above 0 even where both are real: compare distances, with the same y.

    Args:
        x: [B, C, D, H, W].
        y: like x of the same C; other numbers and extents are allowed.
        size: edge of a patch in voxels.
        scales: see above; a patch must fit into the coarsest.
        patches: at most so many of each set and scale, from the densest regular grid that has
            one in every volume (>= 2).
        projections: directions t.
        seed: of the directions. Nothing else is drawn.

    Returns:
        Scalar float64, NaN if a value is not finite. Symmetric, and independent of the order of
        the volumes, up to rounding.

    Raises:
        ConfigError: other shapes, a setting below 1, or a patch that does not fit.

    Derivatives: none.
    Deterministic: yes, by `seed`.
    Cost: per scale 2 N d projections flops and as many sorts of N values a set, with N <= patches
        and d = C size^3; 8 N (d + projections) bytes a set.
    Source: Rabin et al. 2011, "Wasserstein barycenter and its application to texture mixing";
        of patches at several scales: Karras et al. 2018, "Progressive growing of GANs", section 5.

    >>> x = torch.rand(2, 1, 12, 12, 12) ** 2
    >>> patch_distance(x, x).item(), patch_distance(x, 1 - x).item() > 0.1
    (0.0, True)
    """
    _check(x, y, size, scales, patches, projections)
    rng = Draws(seed).numpy(0, "patch_distance")
    with torch.no_grad():
        # bfloat16 values would be averaged in bfloat16.
        x, y = (v.to(torch.promote_types(v.dtype, torch.float32)) for v in (x, y))
        found = []
        for scale in range(scales):
            if scale:
                x, y = F.avg_pool3d(x, 2), F.avg_pool3d(y, 2)
            p, q = _patches(x, size, patches), _patches(y, size, patches)
            directions = rng.standard_normal((p.shape[1], projections))
            directions /= np.linalg.norm(directions, axis=0)
            found.append(_sliced(p, q, torch.from_numpy(directions).to(p.device)))
        return torch.stack(found).mean()


def _check(x: Tensor, y: Tensor, size: int, scales: int, patches: int, projections: int) -> None:
    if x.ndim != 5 or y.ndim != 5 or x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise ConfigError(
            "patch_distance: x and y must be [B, C, D, H, W] of the same C, got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    settings = {"size": size, "scales": scales, "patches": patches, "projections": projections}
    for name, value in settings.items():
        least = 2 if name == "patches" else 1
        if value < least:
            raise ConfigError(f"patch_distance: {name} must be >= {least}, got {value}")
    extent = min(*x.shape[2:], *y.shape[2:])
    if extent >> (scales - 1) < size:
        raise ConfigError(
            f"patch_distance: patches of {size}^3 do not fit at scale {scales} into volumes of "
            f"{extent} voxels; lower scales or size"
        )


def _patches(volumes: Tensor, size: int, most: int) -> Tensor:
    """[N, C size^3] float64, N <= max(most, B), of a regular grid in every volume."""
    windows = volumes
    for axis in (2, 3, 4):
        windows = windows.unfold(axis, size, 1)
    extents = windows.shape[2:5]
    # The first corner of every volume is always taken, so N is at least B.
    steps = range(1, max(extents) + 1)
    fits = (s for s in steps if len(volumes) * prod(-(-n // s) for n in extents) <= most)
    step = next(fits, steps[-1])
    chosen = windows[:, :, ::step, ::step, ::step]
    return chosen.movedim(1, 4).flatten(0, 3).flatten(1).double()


def _sliced(p: Tensor, q: Tensor, directions: Tensor) -> Tensor:
    """The formula of `patch_distance` at one scale: p [N, d], q [M, d], directions [d, K]."""
    p, q = p @ directions, q @ directions
    mean = 0.5 * (p.mean(0) + q.mean(0))
    spread = 0.5 * ((p - mean).square().mean(0) + (q - mean).square().mean(0))
    ranks = min(len(p), len(q))
    at = (torch.arange(ranks, device=p.device, dtype=p.dtype) + 0.5) / ranks
    # Of equal numbers every value is taken, and the distance is exact.
    low, high = (s.sort(0).values[(at * len(s)).long()] for s in (p, q))
    distance: Tensor = (low - high).abs().mean(0) / spread.sqrt().clamp_min(TINY)
    return distance.mean()
