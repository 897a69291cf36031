"""Does a translation keep the structure? Alarms say that contrast was inverted or a body moved.

Unpaired translation can satisfy critic and cycle with the contrast turned round or the body
shifted, grown or cut. What may change is the contrast within the body: T1 to T2 turns fluid from
dark to bright. What may not: in CT and MR alike the air around the body is dark, and the body is
where it was. So nothing here asks that grey values agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.errors import ConfigError

__all__ = [
    "ALARMS",
    "Structure",
    "body_mask",
    "same_contrast",
    "structure",
    "structure_metrics",
]

ALARMS = ("inverted", "drifted")
"""Fields of `Structure` and names of `structure_metrics` that should be false and 0."""

# The source shows air only if the level at its border is in the lowest tenth of [-1, 1].
DARK = -0.8
# Body and background of the translation in the wrong order more often than in the right one.
LEAST_ORDER = 0.5
# Where tissue must look alike. Smooth unrelated volumes of 32^3 stay within 0.2 of 0.
LEAST_CORRELATION = -0.2
# A body that lost a fifth, or gained a quarter, has 0.89. Masks of one body in two contrasts have
# 0.95 and more, unless it is so small that half a voxel counts.
LEAST_DICE = 0.9
LEVELS = 256  # of histograms of one volume
JOINT_LEVELS = 32  # of joint histograms: their bias is about 32^2 / 2 S nats
LARGEST = 1 << 22  # voxels; larger volumes are averaged over blocks of 2^3 first
TINY = 1e-12


@dataclass(frozen=True)
class Structure:
    """Comparison of translations with their sources, one value per volume: [B] each.

    The body is the source's `body_mask`; without visible air it is the whole volume, and what
    needs air is NaN. Values are float32.

    Attributes:
        order: P(a body voxel of the translation is brighter than a background voxel), ties half;
            0 to 1. 1: dark air as in the source; 0: a negative.
        correlation: of source and translation within the body, -1 to 1. Negative is right from T1
            to T2, and wrong from CT to CT.
        edges: correlation of the gradients' magnitudes within the body, two voxels and more from
            its surface, which would outweigh all else; -1 to 1, NaN where nothing is so deep.
            Blind to which side of an edge is bright; low where structure was invented or erased.
        mutual_information: 2 I(s, t) / (H(s) + H(t)) within the body, 0 to 1; blind to any
            one-to-one change of contrast.
        dice: overlap of the two volumes' own body masks, 0 to 1.
        lost, gained: voxels of the source's body that the translation's lacks, and the reverse,
            over those of the source's body.
        inverted: bool, the first alarm: order < 1/2, or, where both domains show tissue alike,
            correlation < -0.2.
        drifted: bool, the second alarm: dice < 0.9.
    """

    order: Tensor
    correlation: Tensor
    edges: Tensor
    mutual_information: Tensor
    dice: Tensor
    lost: Tensor
    gained: Tensor
    inverted: Tensor
    drifted: Tensor


def structure(source: Tensor, translation: Tensor, *, same_contrast: bool = False) -> Structure:
    """Compare translations with their sources, whole volumes or training windows.

    Air is visible where the median of the source's six faces lies in the lowest tenth of the
    range; windows from inside the body have none, and then no alarm rests on it.

    Args:
        source: [B, C, D, H, W] in [-1, 1]; channels are averaged.
        translation: like source.
        same_contrast: both domains show every tissue alike, such as CT of two sites; a negative
            correlation is then an inversion.

    Raises:
        ConfigError: other shapes.

    Derivatives: none; everything is computed without gradients and without a host sync.
    Deterministic: yes.
    Cost: some 60 passes over both volumes, at most 2^22 voxels of each.

    >>> ball = (torch.linspace(-1, 1, 16) ** 2)[:, None, None] + torch.zeros(16, 16, 16)
    >>> ball = 1 - 2 * ((ball + ball.permute(1, 2, 0) + ball.permute(2, 0, 1)) > 0.7).float()
    >>> found = structure(ball[None, None], -ball[None, None])
    >>> found.inverted.item(), found.drifted.item(), found.dice.item()
    (True, False, 1.0)
    """
    if source.shape != translation.shape or source.ndim != 5:
        raise ConfigError(
            "structure: source and translation must be [B, C, D, H, W] of one shape, got "
            f"{tuple(source.shape)} and {tuple(translation.shape)}"
        )
    with torch.no_grad():
        pairs = zip(_plain(source), _plain(translation), strict=True)
        rows = torch.stack([_compare(s, t) for s, t in pairs]).unbind(1)
    order, correlation, edges, information, dice, lost, gained = rows
    inverted = order < LEAST_ORDER  # NaN compares as false
    if same_contrast:
        inverted = inverted | (correlation < LEAST_CORRELATION)
    return Structure(
        order, correlation, edges, information, dice, lost, gained, inverted, dice < LEAST_DICE
    )


def structure_metrics(
    source: Tensor, translation: Tensor, *, same_contrast: bool = False
) -> dict[str, Tensor]:
    """Means over the batch for the training log, detached scalars.

    Args:
        source: [B, C, D, H, W] in [-1, 1].
        translation: like source.
        same_contrast: as in `structure`.

    Returns:
        background_order and body_dice (NaN where no volume shows air), edge_correlation,
        mutual_information, and inverted and drifted as shares of the batch.
    """
    found = structure(source, translation, same_contrast=same_contrast)
    return {
        "background_order": found.order.nanmean(),
        "body_dice": found.dice.nanmean(),
        "edge_correlation": found.edges.nanmean(),
        "mutual_information": found.mutual_information.mean(),
        "inverted": found.inverted.float().mean(),
        "drifted": found.drifted.float().mean(),
    }


def same_contrast(modality: str, other: str) -> bool:
    """Whether two modalities of `fastgan.data` show every tissue alike; MR's sequences do not."""
    return modality == other and modality != "mr"


def body_mask(volume: Tensor) -> tuple[Tensor, Tensor]:
    """What is not background, bright or dark, and what it encloses.

    Background is the level the six faces have in the median. A voxel is foreground if it differs
    from it by more than the threshold of least cross-entropy, which unlike Otsu's does not split a
    body with dark and bright parts: for two classes it is the logarithmic mean of their levels.
    The body is the foreground and every voxel with foreground on all six sides along the axes.

    Args:
        volume: [D, H, W].

    Returns:
        (bool [D, H, W], the background's level, a scalar).

    Source: Li and Lee, "Minimum cross entropy thresholding", Pattern Recognition 26 (1993).
    """
    v = volume
    sides = (v[0], v[-1], v[1:-1, 0], v[1:-1, -1], v[1:-1, 1:-1, 0], v[1:-1, 1:-1, -1])
    faces = torch.cat([side.flatten() for side in sides]).sort().values
    level = faces[(faces.numel() - 1) // 2]
    distance = (volume - level).abs()
    foreground = (distance > _threshold(distance)).to(torch.int32)
    body = torch.ones_like(foreground, dtype=torch.bool)
    for axis in range(3):
        count = foreground.cumsum(axis, dtype=torch.int32)
        body &= (count > 0) & (count - foreground < count.select(axis, -1).unsqueeze(axis))
    return body, level


def _plain(volumes: Tensor) -> Tensor:
    """[B, D, H, W] float32 in [-1, 1], no larger than needed."""
    plain = torch.nan_to_num(volumes.float()).clamp(-1.0, 1.0).mean(1)
    while plain[0].numel() > LARGEST:
        plain = F.avg_pool3d(plain, [min(2, extent) for extent in plain.shape[1:]])
    return plain


def _compare(source: Tensor, translation: Tensor) -> Tensor:
    """[7] values of one pair of [D, H, W] volumes, in the order of Structure."""
    mask, level = body_mask(source)
    other, _ = body_mask(translation)
    seen = (level <= DARK) & mask.any() & ~mask.all()
    body = mask | ~seen
    ours, theirs, common = (m.sum().float() for m in (mask, other, mask & other))
    needs_air = torch.stack(
        [
            _order(translation, mask),
            2.0 * common / (ours + theirs),
            (ours - common) / ours,
            (theirs - common) / ours,
        ]
    )
    order, dice, lost, gained = torch.where(seen, needs_air, torch.nan).unbind()
    return torch.stack(
        [
            order,
            _correlation(source, translation, body),
            _correlation(_steepness(source), _steepness(translation), _inner(body)),
            _mutual_information(source, translation, body),
            dice,
            lost,
            gained,
        ]
    )


def _threshold(distance: Tensor) -> Tensor:
    """Threshold of least cross-entropy of values >= 0, a scalar."""
    top = distance.amax().clamp_min(TINY)
    place = (distance * ((LEVELS - 1) / top)).round().long()
    counts = _histogram(place, torch.ones_like(place), LEVELS)
    levels = torch.arange(LEVELS, device=distance.device)
    below, mass_below = counts.cumsum(0).double(), (counts * levels).cumsum(0).double()
    above, mass_above = below[-1] - below, mass_below[-1] - mass_below
    # Least cross-entropy maximises the sum over both classes of mass * log(mean).
    gain = torch.special.xlogy(mass_below, mass_below / below.clamp_min(1.0))
    gain = gain + torch.special.xlogy(mass_above, mass_above / above.clamp_min(1.0))
    best: Tensor = gain[:-1].argmax() + 0.5
    return best * (top / (LEVELS - 1))


def _order(volume: Tensor, body: Tensor) -> Tensor:
    place = ((volume + 1.0) * (0.5 * (LEVELS - 1))).round().long()
    of_body = _histogram(place, body.long(), LEVELS).double()
    of_air = _histogram(place, (~body).long(), LEVELS)
    # Sums of whole numbers: those of fractions depend on their order on some devices.
    darker = of_air.cumsum(0) - 0.5 * of_air
    order: Tensor = (of_body * darker).sum() / (of_body.sum() * of_air.sum())
    return order.float()


def _correlation(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """Pearson's, of the voxels `where`; 0 if either is constant there, NaN if there are none."""
    share = where / where.sum()
    a, b = a - (a * share).sum(), b - (b * share).sum()
    spread = (a.square() * share).sum().clamp_min(TINY), (b.square() * share).sum().clamp_min(TINY)
    return (a * b * share).sum() / (spread[0] * spread[1]).sqrt()


def _steepness(volume: Tensor) -> Tensor:
    """Magnitude of the gradient, per voxel."""
    wide = F.pad(volume[None, None], (1,) * 6, mode="replicate")[0, 0]
    inner = slice(1, -1)
    steps = (
        wide[2:, inner, inner] - wide[:-2, inner, inner],
        wide[inner, 2:, inner] - wide[inner, :-2, inner],
        wide[inner, inner, 2:] - wide[inner, inner, :-2],
    )
    squares: Tensor = 0.25 * (steps[0].square() + steps[1].square() + steps[2].square())
    return squares.sqrt()


def _inner(body: Tensor) -> Tensor:
    """The voxels whose neighbours up to two away all are in the body, or outside the volume."""
    outside = (~body).float()[None, None]
    for axis in range(3):
        reach = [2 if axis == other else 0 for other in range(3)]
        outside = F.max_pool3d(outside, [2 * r + 1 for r in reach], stride=1, padding=reach)
    return outside[0, 0] == 0.0


def _mutual_information(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    place = _bins(a, where) * JOINT_LEVELS + _bins(b, where)
    joint = _histogram(place, where.long(), JOINT_LEVELS**2).double()
    joint = (joint / joint.sum()).reshape(JOINT_LEVELS, JOINT_LEVELS)
    both = torch.special.entr(joint).sum()
    single = torch.special.entr(joint.sum(0)).sum() + torch.special.entr(joint.sum(1)).sum()
    shared: Tensor = 2.0 * (single - both) / single.clamp_min(TINY)
    return shared.clamp(0.0, 1.0).float()


def _bins(volume: Tensor, where: Tensor) -> Tensor:
    low = torch.where(where, volume, torch.inf).amin()
    high = torch.where(where, volume, -torch.inf).amax()
    scaled = (volume - low) * ((JOINT_LEVELS - 1) / (high - low).clamp_min(TINY))
    return scaled.clamp(0.0, JOINT_LEVELS - 1.0).round().long()


def _histogram(place: Tensor, weight: Tensor, bins: int) -> Tensor:
    """[bins] int64: exact, so the order in which a device adds does not matter."""
    out = torch.zeros(bins, dtype=torch.int64, device=place.device)
    return out.index_add_(0, place.flatten(), weight.flatten())
