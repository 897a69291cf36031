"""These procedural volumes have a known truth: nodules in lung-like texture, scanners, marks.

For the controls and the tests of judgements. A number measured on phantoms says what a judgement
can see, never how good a generator is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.evidence import Cohort
from fastgan.audit.phantoms.fields import blurred, lung_texture, spiculated_balls
from fastgan.errors import AuditError

__all__ = ["CLASSES", "OTHER_SCANNER", "Lesion", "Phantoms", "Recipe", "Scanner", "phantoms"]

CLASSES = ("benign", "malignant")
TEXTURE, NOISE = 0.12, 0.06
"""Standard deviation of the lung's texture and of the scanner's noise, in [-1, 1]."""
_LUNG = -0.55
_MARK_UNIT = np.float32(np.hypot(TEXTURE, NOISE))
_SPIKES = 8
_CHUNK = 64  # volumes in memory at once


@dataclass(frozen=True)
class Lesion:
    """How the nodules of one class look."""

    radius: float
    """mm, the median."""
    spread: float = 0.2
    """Standard deviation of the logarithm of the radius."""
    spiculation: float = 0.0
    """Height of the spikes, in radii."""
    density: float = 0.9
    """Brightness above lung, in [-1, 1] units."""


@dataclass(frozen=True)
class Scanner:
    """What a scanner does to a volume; the defaults do nothing."""

    noise: float = 1.0
    """Factor on the standard deviation of the noise."""
    blur: float = 0.0
    """mm, standard deviation of a Gaussian kernel over the picture and its noise."""
    gain: float = 1.0
    offset: float = 0.0


OTHER_SCANNER = Scanner(noise=1.3, blur=0.6, gain=1.05, offset=0.03)
"""A second scanner that a sound test of sites sees at once."""


@dataclass(frozen=True)
class Recipe:
    """What is drawn. By default nothing but the lesions depends on the label."""

    size: int = 32
    """Voxels along each axis."""
    extent: float = 48.0
    """mm along each axis."""
    per_subject: int = 1
    """Volumes of each subject."""
    within: float = 0.5
    """Correlation of texture and of the logarithm of the radius between volumes of a subject."""
    labels_by: Literal["subject", "volume"] = "subject"
    malignant: float = 0.5
    """Probability of the class malignant."""
    lesions: tuple[Lesion, Lesion] = (
        Lesion(radius=6.0),
        Lesion(radius=8.0, spiculation=0.5, density=0.8),
    )
    """Of benign and malignant."""
    subgroup: float = 0.0
    """How far malignant lesions of women are moved towards the look of benign ones, 0 to 1."""
    scanner_by: Literal["subject", "volume"] = "subject"
    agreement: float = 0.5
    """Probability that a volume of class malignant comes from scanner S2, and benign from S1."""
    scanners: tuple[Scanner, Scanner] = (Scanner(), Scanner())
    watermark: float = 0.0
    """Brightness added to the mark's voxels on scanner S2, in standard deviations of a voxel."""
    mark_size: int = 3
    mark_at: tuple[int, int, int] = (1, 1, 1)
    """First voxel of the mark."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel."""
        return (self.extent / self.size,) * 3


@dataclass(frozen=True)
class Phantoms:
    """Volumes and what is true of them, all in one order."""

    recipe: Recipe
    first: Cohort
    """The first contrast: lesions bright. Columns: site, scanner, sex, age."""
    second: Cohort | None
    """The second contrast of the same bodies, aligned: lung bright, lesions dark; if asked for."""
    lesions: Floats
    """[N, D, H, W] float32 in [0, 1], the share of each voxel that is lesion."""
    radius: Floats
    """[N] mm."""
    mark: Bools = field(repr=False)
    """[D, H, W] voxels of the watermark."""


def phantoms(
    recipe: Recipe,
    subjects: int | Integers,
    *,
    seed: int,
    labels: Integers | None = None,
    both: bool = False,
    name: str = "training",
) -> Phantoms:
    """Draw volumes. A subject depends on (seed, its number) alone, not on who else is drawn.

    Args:
        recipe: what to draw.
        subjects: how many, or their numbers.
        seed: of everything.
        labels: [N] classes to draw instead of random ones, all else being equal: the same subjects
            with other labels are what a perfect generator makes of the same latents.
        both: whether the second contrast is drawn, too; the first is the same either way.
        name: of the cohorts.

    Returns:
        N = subjects * per_subject volumes, those of a subject in a row.

    Raises:
        AuditError: `labels` of another length, or a mark that leaves the volume.

    Cost: about 5 ms a volume of 32^3 on one core; memory for the result and 64 volumes.
    """
    numbers = np.arange(subjects) if isinstance(subjects, int | np.integer) else subjects
    count = len(numbers) * recipe.per_subject
    if labels is not None and len(labels) != count:
        raise AuditError(f"phantoms: {count} volumes but {len(labels)} labels")
    if recipe.mark_size + max(recipe.mark_at) > recipe.size or min(recipe.mark_at) < 0:
        raise AuditError(f"phantoms: a mark at {recipe.mark_at} leaves {recipe.size} voxels")
    people = [_Person.draw(recipe, seed, int(number), 1 + both) for number in numbers]
    chosen = np.concatenate([p.labels for p in people]) if labels is None else np.asarray(labels)
    scanner = np.concatenate([p.scanner_of(recipe, chosen, i) for i, p in enumerate(people)])
    mark = np.zeros((recipe.size,) * 3, dtype=bool)
    mark[tuple(slice(at, at + recipe.mark_size) for at in recipe.mark_at)] = True
    per_chunk = max(1, _CHUNK // recipe.per_subject)
    parts = []
    for start in range(0, len(people), per_chunk):
        rows = slice(start * recipe.per_subject, (start + per_chunk) * recipe.per_subject)
        block = people[start : start + per_chunk]
        parts.append(_render(recipe, block, chosen[rows], scanner[rows], mark))
    pictures, lesions, radius = zip(*parts, strict=True)
    contrasts = np.concatenate(pictures, axis=1)
    who = np.repeat([f"P{number:05d}" for number in numbers], recipe.per_subject)
    columns = {
        "site": np.repeat([p.site for p in people], recipe.per_subject),
        "scanner": np.array(["S1", "S2"])[scanner],
        "sex": np.repeat([p.sex for p in people], recipe.per_subject),
        "age": np.repeat([p.age for p in people], recipe.per_subject),
    }
    first = Cohort(name, contrasts[0], who, chosen, columns)
    second = replace(first, values=contrasts[1]) if both else None
    return Phantoms(recipe, first, second, np.concatenate(lesions), np.concatenate(radius), mark)


@dataclass(frozen=True)
class _Person:
    """Everything random about one subject, V volumes of it."""

    labels: Integers  # [V]
    scanner_draw: Floats  # [V]
    site: str
    sex: str
    age: str
    centre: Floats  # [V, 3] voxels
    log_radius: Floats  # [V]
    spikes: Floats  # [V, K, 3] unit vectors
    white: Floats  # [V, D, H, W] unit variance, of the texture
    noise: Floats  # [contrasts, V, D, H, W] unit variance

    @classmethod
    def draw(cls, recipe: Recipe, seed: int, number: int, contrasts: int) -> _Person:
        rng = np.random.default_rng([seed, number])
        count, grid = recipe.per_subject, (recipe.size,) * 3
        own, shared = np.sqrt(1 - recipe.within), np.sqrt(recipe.within)
        labels = (rng.random(count) < recipe.malignant).astype(np.int64)
        scanner = rng.random(count)
        if recipe.labels_by == "subject":
            labels[:] = labels[0]
        if recipe.scanner_by == "subject":
            scanner[:] = scanner[0]
        coin = rng.integers(0, 2, 3)
        site, sex, age = "AB"[coin[0]], "FM"[coin[1]], ("<60", "60+")[coin[2]]
        spikes = rng.standard_normal((count, _SPIKES, 3))
        white = own * rng.standard_normal((count, *grid), dtype=np.float32)
        white += shared * rng.standard_normal(grid, dtype=np.float32)
        return cls(
            labels,
            scanner,
            site,
            sex,
            age,
            rng.uniform(-0.04, 0.04, (count, 3)) * recipe.size,
            own * rng.standard_normal(count) + shared * rng.standard_normal(),
            spikes / np.linalg.norm(spikes, axis=-1, keepdims=True),
            white,
            rng.standard_normal((contrasts, count, *grid), dtype=np.float32),
        )

    def scanner_of(self, recipe: Recipe, labels: Integers, position: int) -> Integers:
        """[V] 0 or 1: with probability `agreement` the label, of all volumes when by subject."""
        rows = slice(position * recipe.per_subject, (position + 1) * recipe.per_subject)
        own = labels[rows]
        if recipe.scanner_by == "subject":
            own = np.broadcast_to(own[0], own.shape)
        return np.where(self.scanner_draw < recipe.agreement, own, 1 - own)


def _render(
    recipe: Recipe,
    people: list[_Person],
    labels: Integers,
    scanner: Integers,
    mark: Bools,
) -> tuple[Floats, Floats, Floats]:
    """Contrasts [1 or 2, N, D, H, W], lesions [N, D, H, W] and radii [N] of a block of subjects."""
    sex = np.repeat([p.sex for p in people], recipe.per_subject)
    towards = np.where((labels == 1) & (sex == "F"), recipe.subgroup, 0.0)
    look = {
        key: _mixed(recipe, key, labels, towards)
        for key in ("radius", "spread", "spiculation", "density")
    }
    step = recipe.spacing[0]
    texture = lung_texture(np.concatenate([p.white for p in people]))
    noise = NOISE * np.concatenate([p.noise for p in people], axis=1)
    radius = look["radius"] * np.exp(
        look["spread"] * np.concatenate([p.log_radius for p in people])
    )
    lesions = spiculated_balls(
        recipe.size,
        step,
        np.concatenate([p.centre for p in people]),
        radius,
        look["spiculation"],
        np.concatenate([p.spikes for p in people]),
    )
    tissue = TEXTURE * texture
    density = look["density"].astype(np.float32)[:, None, None, None]
    made = np.empty_like(noise)
    made[0] = _LUNG + tissue * (1 - 0.5 * lesions) + density * lesions
    if len(made) > 1:  # lung bright with its texture inverted, lesions dark
        made[1] = 0.35 - 1.2 * tissue * (1 - 0.5 * lesions) - 0.9 * lesions
    for s, machine in enumerate(recipe.scanners):
        at = scanner == s
        noisy = made[:, at] + np.float32(machine.noise) * noise[:, at]
        made[:, at] = machine.gain * blurred(noisy, machine.blur / step) + machine.offset
    if recipe.watermark:
        made[0] += _MARK_UNIT * recipe.watermark * mark * (scanner == 1)[:, None, None, None]
    return np.clip(made, -1.0, 1.0), lesions, radius


def _mixed(recipe: Recipe, key: str, labels: Integers, towards: Floats) -> Floats:
    benign, malignant = (float(getattr(lesion, key)) for lesion in recipe.lesions)
    return np.where(labels == 1, malignant + towards * (benign - malignant), benign)
