"""How many generated volumes carry a wrong label? Bounds that do not suppose them as hard to read.

Of the volumes that are said to be of class c, the classifier reads some clearly: with a probability
of at least `labels.generated.clear`, or than `labels.generated.clearest` of the patients whom it
reads as the same class, if a weak classifier is hardly ever so sure. Among clear volumes it errs
less often, whatever their share. With m the share of clear volumes of c that are read as another
class, q that of wrong labels, f the share of clear volumes of c misread, and e that of other
classes read as c,

    m = (1 - q) f + q (1 - e)

f and e are measured on patients, but generated volumes may be clearer or less clear than those. The
upper bound of q takes f = 0 and the largest e: its upper bound on patients, or
`labels.generated.clarity` times what was seen there if that is more. So it supposes nothing of how
clear generated volumes are: a label that is right can only be misread too often. The lower bound
takes e = 0 and the smaller of two: m less f, both as uncertain as they are (added in squares, since
other volumes tell of each), and the lower end of m less what generated volumes may be misread at
most, `labels.generated.clarity` times f and `labels.generated.misread_more` beyond.

Source of the first: Newcombe 1998, "Interval estimation for the difference between independent
proportions", method 10, here with Clopper-Pearson ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats, Integers, Texts
from fastgan.audit.evidence import LEAST_SUBJECTS
from fastgan.audit.rules import limit
from fastgan.audit.statistics import clopper_pearson
from fastgan.errors import AuditError

__all__ = [
    "CLARITY",
    "CLEAREST",
    "MORE",
    "SURE",
    "Clear",
    "Noise",
    "Reader",
    "clear",
    "noise",
    "reader",
    "sure_from",
    "wrong_labels_of_patients",
]

SURE = limit("labels.generated.clear")
CLEAREST = limit("labels.generated.clearest")
CLARITY = limit("labels.generated.clarity")
MORE = limit("labels.generated.misread_more")


@dataclass(frozen=True)
class Clear:
    """Volumes by the class that they are labelled with, [K] each."""

    counts: Integers
    clear: Integers
    """Of those, read clearly."""
    disagree: Integers
    """Of the clear ones, read as another class."""


@dataclass(frozen=True)
class Reader:
    """How the classifier reads patients, [K] each, and how many independent volumes say so."""

    sure: Floats
    """Probability from which a class is read clearly."""
    unclear: Floats
    """Share of the volumes of c that it does not read clearly."""
    unclear_size: Floats
    misread: Floats
    """f(c): share of the clear volumes of c that it takes for another class."""
    misread_size: Floats
    taken: Floats
    """e(c): share of the clear volumes of other classes, classes weighted equally, taken for c."""
    taken_size: Floats


@dataclass(frozen=True)
class Noise:
    """Share of wrong labels among clear volumes, [K] each, with one-sided bounds."""

    share: Floats
    low: Floats
    high: Floats
    overall: float
    """The same of all classes together."""
    overall_low: float
    overall_high: float


def sure_from(probabilities: Floats) -> Floats:
    """[K] the probability from which a class is read clearly, by readings of patients [N, K]."""
    said, most = probabilities.argmax(axis=1), probabilities.max(axis=1)
    kinds = range(probabilities.shape[1])
    return np.array([_surest(most[said == c]) for c in kinds])


def _surest(most: Floats) -> float:
    return min(SURE, float(np.quantile(most, 1 - CLEAREST))) if len(most) else SURE


def _is_sure(probabilities: Floats, sure: Floats) -> Bools:
    out: Bools = probabilities.max(axis=1) >= sure[probabilities.argmax(axis=1)]
    return out


def clear(probabilities: Floats, labels: Integers, sure: Floats) -> Clear:
    """Counts of volumes read with probabilities [N, K] and labelled [N], clear from `sure` [K]."""
    some_sure = _is_sure(probabilities, sure)
    other = some_sure & (probabilities.argmax(axis=1) != labels)
    kinds = probabilities.shape[1]
    every, some, off = (
        np.bincount(labels[at], minlength=kinds) for at in (labels >= 0, some_sure, other)
    )
    return Clear(every, some, off)


def reader(
    probabilities: Floats, labels: Integers, subjects: Texts, sure: Floats | None = None
) -> Reader:
    """How patients' volumes are read, where those of one patient resemble each other.

    Args:
        probabilities: [N, K].
        labels: [N].
        subjects: [N].
        sure: [K] from which a class is read clearly; None: as these patients' readings say.

    Raises:
        AuditError: a class of which fewer than 10 subjects are read clearly.
    """
    kinds = probabilities.shape[1]
    limits = sure_from(probabilities) if sure is None else sure
    said, surely = probabilities.argmax(axis=1), _is_sure(probabilities, limits)
    unclear, misread = np.zeros((2, kinds)), np.zeros((2, kinds))
    taken, size = np.zeros((kinds, kinds)), np.zeros((kinds, kinds))
    for c in range(kinds):
        of_class = labels == c
        at = of_class & surely
        count = len(np.unique(subjects[at]))
        if count < LEAST_SUBJECTS:
            raise AuditError(
                f"labels: the classifier reads {count} patients of class {c} clearly, at least "
                f"{LEAST_SUBJECTS} of every class are needed; more patients, or classes that are "
                "easier to read"
            )
        unclear[:, c] = _clustered(~surely[of_class], subjects[of_class])
        misread[:, c] = _clustered(said[at] != c, subjects[at])
        for k in range(kinds):
            taken[c, k], size[c, k] = _clustered(said[at] == k, subjects[at])
    others = 1.0 - np.eye(kinds)
    mean = (others / others.sum(axis=0) * taken).sum(axis=0)
    total = (others * size).sum(axis=0)
    return Reader(limits, unclear[0], unclear[1], misread[0], misread[1], mean, total)


def noise(real: Reader, made: Clear, level: float = 0.95) -> Noise:
    """Shares of wrong labels among clear generated volumes; each bound holds at the level."""
    part = 1 - (1 - level) / 2  # of two proportions
    above, taken = (
        _upper(share, size, part)
        for share, size in ((real.misread, real.misread_size), (real.taken, real.taken_size))
    )
    taken = np.minimum(np.maximum(taken, CLARITY * real.taken), 1.0)
    share, low, high = (np.empty(len(made.counts)) for _ in range(3))
    for c, (off, count) in enumerate(zip(made.disagree.tolist(), made.clear.tolist(), strict=True)):
        m = off / max(count, 1)
        share[c] = (m - real.misread[c]) / max(1 - real.misread[c] - real.taken[c], 1e-9)
        low[c] = _least(off, count, real.misread[c], above[c] - real.misread[c], part)
        high[c] = _most(off, count, taken[c], part)
    off, count = int(made.disagree.sum()), int(made.clear.sum())
    weight = made.clear / max(count, 1)
    beyond = float(np.sqrt(np.square(weight * (above - real.misread)).sum()))
    return Noise(
        np.clip(share, 0.0, 1.0),
        low,
        high,
        float(weight @ share),
        _least(off, count, float(weight @ real.misread), beyond, part),
        _most(off, count, float(taken.max()), part),
    )


def wrong_labels_of_patients(real: Reader) -> float:
    """About how many of the patients' own labels are wrong: clear volumes read as another class.

    The classifier errs on clear volumes, too, so it is an upper estimate.
    """
    return float(real.misread.mean())


def _least(off: int, count: int, misread: float, beyond: float, level: float) -> float:
    """Lower bound of the share of wrong labels where `off` of `count` clear volumes disagree.

    Args:
        off: volumes.
        count: volumes.
        misread: share of patients' clear volumes of the class.
        beyond: how much higher it may be.
        level: of either proportion.
    """
    if not count or misread >= 1.0:
        return 0.0
    m = off / count
    least = clopper_pearson(off, count, level, "lower")[0]
    uncertain = (m - misread) - float(np.hypot(m - least, beyond))
    return max(min(uncertain, least - CLARITY * misread - MORE) / (1.0 - misread), 0.0)


def _most(off: int, count: int, taken: float, level: float) -> float:
    """Upper bound of the same, with a share `taken` of other classes read as this one at most."""
    if not count:
        return 1.0
    most = clopper_pearson(off, count, level, "upper")[1]
    return min(most / max(1.0 - taken, 1e-9), 1.0)


def _upper(share: Floats, size: Floats, level: float) -> Floats:
    """[K] upper bounds of shares that are worth so many volumes."""
    counts = np.maximum(np.rint(size), 1).astype(int)
    return np.array(
        [
            clopper_pearson(min(int(np.ceil(s * n - 1e-9)), n), n, level, "upper")[1]
            for s, n in zip(share, counts.tolist(), strict=True)
        ]
    )


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
