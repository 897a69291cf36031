"""Signs of mode collapse in a batch, cheap enough for every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["collapse_metrics", "similarity"]

# Far below any variance of volumes in [-1, 1]; keeps 0 / 0 out.
TINY = 1e-12


def similarity(volumes: Tensor) -> Tensor:
    """How alike the volumes of a batch are: the intraclass correlation of voxels.

    1 - (mean over voxels of the variance over the batch) / (variance of all values together). It
    is the mean pairwise correlation where volumes share mean and contrast; unlike that it is
    defined, and 1, for constant volumes that are the same.

    Args:
        volumes: [B, ...], B >= 2.

    Returns:
        Scalar float32 or wider, at most 1; about 0 for unrelated noise.
    """
    between, total = _variances(volumes)
    return 1.0 - between / total.clamp_min(TINY)


def whole(mean: Tensor) -> Tensor:
    """The mean over the parts of volumes that have one."""
    return mean


def collapse_metrics(
    real: Tensor, fake: Tensor, averaged: Callable[[Tensor], Tensor] = whole
) -> dict[str, Tensor]:
    """Similarity within both batches, and the share of the real variance the generator lost.

    Args:
        real: [B, C, D, H, W]. Nothing is said of a batch of one.
        fake: like real, of the same labels.
        averaged: where both are equal parts of volumes: the mean over the parts.

    Returns:
        similarity_real, similarity_fake, and collapse in [0, 1]: 1 when all generated volumes
        are one. Detached scalars.

    Cost: three passes over both batches.
    """
    if real.shape[0] < 2:
        return {}
    with torch.no_grad():
        real_between, real_total = _variances(real, averaged)
        fake_between, fake_total = _variances(fake, averaged)
        lost = 1.0 - fake_between / real_between.clamp_min(TINY)
        return {
            "similarity_real": 1.0 - real_between / real_total.clamp_min(TINY),
            "similarity_fake": 1.0 - fake_between / fake_total.clamp_min(TINY),
            "collapse": lost.clamp(0.0, 1.0),
        }


def _variances(
    volumes: Tensor, averaged: Callable[[Tensor], Tensor] = whole
) -> tuple[Tensor, Tensor]:
    """Mean variance over the batch at a voxel, and variance of all values."""
    wide = volumes.to(torch.promote_types(volumes.dtype, torch.float32))
    mean = wide.mean(0)
    # var(all) = mean over voxels of the batch variance + variance of the batch mean, both biased.
    within = averaged((wide - mean).square().mean())
    batch = volumes.shape[0]
    # Unbiased, so that independent noise has similarity 0 in batches of any size.
    between = within * batch / (batch - 1)
    total = within + _variance(mean, averaged)
    return between, total.clamp_min(between)


def _variance(values: Tensor, averaged: Callable[[Tensor], Tensor]) -> Tensor:
    """Biased, of all values in all parts."""
    if averaged is whole:
        return values.var(unbiased=False)
    variance, mean = torch.var_mean(values, correction=0)
    return averaged(variance + (mean - averaged(mean)).square())
