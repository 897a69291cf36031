"""How many generated volumes carry a wrong label? A classifier that errs itself tells.

Of volumes truly of class c the classifier recognises a share a(c); of others it says c in a share
e(c). Both are measured on held-out patients. If a share q(c) of the volumes generated as c is not
c, it recognises (1 - q) a + q e of them, so q = (a - g) / (a - e) with g its share there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats, Integers, Texts
from fastgan.audit.evidence import LEAST_SUBJECTS
from fastgan.errors import AuditError

__all__ = ["Agreement", "Noise", "agreement", "noise", "planted_noise"]

DRAWS = 2000


@dataclass(frozen=True)
class Agreement:
    """How often the classifier says class c, of volumes of class c and of the others."""

    own: Floats
    """[K] a(c): share of the volumes of c that are said to be c."""
    other: Floats
    """[K] e(c): share of the others, classes weighted equally, that are said to be c."""
    own_size: Floats
    """[K] how many independent volumes a(c) is worth."""
    other_size: Floats
    """[K] the same of e(c)."""


@dataclass(frozen=True)
class Noise:
    """Share of wrong labels per class, [K] each; negative: clearer than patients are."""

    share: Floats
    low: Floats
    high: Floats
    """One-sided bounds at the level that was asked for."""
    overall_high: float
    """The same of the share among all generated volumes, whatever their class."""


def agreement(said: Integers, labels: Integers, subjects: Texts, num_classes: int) -> Agreement:
    """Shares, and what they are worth where volumes of a subject resemble each other.

    Args:
        said: [N] classes the classifier chose.
        labels: [N] true classes.
        subjects: [N].
        num_classes: K.

    Raises:
        AuditError: a class of fewer than 10 subjects.
    """
    shares = np.zeros((num_classes, num_classes))
    sizes = np.zeros((num_classes, num_classes))
    for c in range(num_classes):
        of_class = labels == c
        count = len(np.unique(subjects[of_class]))
        if count < LEAST_SUBJECTS:
            raise AuditError(
                f"labels: {count} held-out subjects of class {c}, at least {LEAST_SUBJECTS} of "
                "every class are needed"
            )
        for k in range(num_classes):
            shares[c, k], sizes[c, k] = _clustered(said[of_class] == k, subjects[of_class])
    others = 1.0 - np.eye(num_classes)
    mean = others / others.sum(0)
    return Agreement(
        np.diag(shares).copy(),
        (mean * shares).sum(0),
        np.diag(sizes).copy(),
        (others * sizes).sum(0),
    )


def noise(
    real: Agreement,
    found: Integers | Floats,
    counts: Integers,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Noise:
    """Shares of wrong labels with one-sided bounds.

    Args:
        real: of held-out patients.
        found: [K] generated volumes of c that are said to be c.
        counts: [K] generated volumes of c.
        rng: draws from the Beta distributions of a, e and g (Jeffreys), from which bounds follow.
        level: of each bound.
    """
    a = _beta(real.own, real.own_size, rng)
    e = _beta(real.other, real.other_size, rng)
    g = _beta(found / counts, counts, rng)
    # Where a and e meet the classifier says nothing about the label: all may be wrong.
    q = np.where(a > e, np.minimum((a - g) / np.maximum(a - e, 1e-9), 1.0), 1.0)
    share = (real.own - found / counts) / np.maximum(real.own - real.other, 1e-9)
    overall = q @ (counts / counts.sum())
    return Noise(
        share,
        np.quantile(q, 1 - level, axis=0),
        np.quantile(q, level, axis=0),
        float(np.quantile(overall, level)),
    )


def planted_noise(
    real: Agreement, counts: Integers, share: float, rng: np.random.Generator
) -> tuple[Agreement, Integers]:
    """One sample of patients and of a generator whose only fault is a share of wrong labels.

    Args:
        real: agreement taken as the truth.
        counts: [K] generated volumes.
        share: of wrong labels.
        rng: of the samples.

    Returns:
        (agreement of a new sample of patients, [K] generated volumes said to be of their class).
    """
    sizes = (real.own_size, real.other_size)
    own, other = (
        rng.binomial(np.maximum(np.rint(n), 1).astype(int), p) / np.maximum(np.rint(n), 1)
        for n, p in zip(sizes, (real.own, real.other), strict=True)
    )
    sample = Agreement(own, other, *sizes)
    return sample, rng.binomial(counts, (1 - share) * real.own + share * real.other)


def _beta(share: Floats, size: Floats | Integers, rng: np.random.Generator) -> Floats:
    """[DRAWS, K]."""
    return rng.beta(share * size + 0.5, (1 - share) * size + 0.5, (DRAWS, len(share)))


def _clustered(hit: Bools, subjects: Texts) -> tuple[float, float]:
    """A share, and the number of independent volumes with its variance, subjects being the unit.

    Source: Kish 1965, "Survey sampling", design effect of clusters of unequal size.
    """
    share, count = float(hit.mean()), len(hit)
    _, who = np.unique(subjects, return_inverse=True)
    clusters = int(who.max()) + 1
    if clusters == count or share in (0.0, 1.0):
        return share, float(clusters)
    surplus = np.bincount(who, hit - share)
    variance = float((surplus**2).sum()) / count**2 * clusters / (clusters - 1)
    return share, float(np.clip(share * (1 - share) / max(variance, 1e-12), 1.0, count))
