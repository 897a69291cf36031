"""How well does the classifier read labels of unseen patients, and what does size alone tell?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit.evidence import LEAST_SUBJECTS, Evidence, Options
from fastgan.audit.labels.classifier import Ensemble, train_ensemble
from fastgan.audit.rules import limit
from fastgan.audit.statistics import auc, bootstrap_interval
from fastgan.errors import AuditError
from fastgan.measures.descriptors import size_of

__all__ = ["LEAST_AUC", "Instrument", "instrument", "sizes", "strata", "within_strata"]

LEAST_AUC = limit("labels.least_auc")
"""The lower end of the interval has to reach it, or no label is judged by this classifier."""
POWER = limit("labels.power")
"""Share of runs in which a planted fault of labels must be found; alarms in one of twenty are of
chance."""
STRATA = 5
BINS = 10


@dataclass(frozen=True)
class Instrument:
    """The classifier and its figures on held-out patients."""

    ensemble: Ensemble
    probabilities: Floats
    """[N, K] of the held-out volumes."""
    area: float
    """ROC AUC of one class against the others, mean over classes."""
    interval: tuple[float, float]
    """95 %, patients drawn with replacement."""
    size_area: float
    """The same of size alone."""
    within_size: float
    """The same of the classifier among volumes of one fifth of sizes: what it sees beside size."""
    calibration: float
    """Expected calibration error, classes weighted equally."""
    disagreement: float
    """Share of volumes that two members call differently."""

    @property
    def weak(self) -> str:
        """Why no label can be judged, or ""."""
        if self.interval[0] >= LEAST_AUC:
            return ""
        return (
            f"the classifier reads held-out labels with an AUC of {self.area:.2f} "
            f"({self.interval[0]:.2f} to {self.interval[1]:.2f}), which is not surely above "
            f"{LEAST_AUC:g}"
        )


def instrument(evidence: Evidence, options: Options, *, steps: int | None = None) -> Instrument:
    """Train the classifier and measure it on the held-out patients.

    Args:
        evidence: labelled training and held-out volumes.
        options: the seed.
        steps: of each network; None for the protocol's.

    Raises:
        AuditError: no labels, one class, or a class without ten subjects in either split.
    """
    holdout = evidence.holdout
    rng = options.rng("classifier/training")
    ensemble = train_ensemble(evidence.training, len(evidence.classes), rng, steps=steps)
    if holdout.labels is None:
        raise AuditError("labels: the held-out volumes have no labels to measure a classifier by")
    labels = np.asarray(holdout.labels)
    for c, name in enumerate(evidence.classes):
        count = len(np.unique(holdout.subjects[labels == c]))
        if count < LEAST_SUBJECTS:
            raise AuditError(
                f"labels: {count} held-out subjects of class {name}, at least {LEAST_SUBJECTS} are "
                "needed"
            )
    probabilities = ensemble.probabilities(holdout.values)
    interval = bootstrap_interval(
        lambda drawn: _area(probabilities[drawn], labels[drawn]),
        holdout.subjects,
        options.rng("labels/auc"),
        draws=500,
    )
    size = sizes(holdout.values, evidence.modality)
    return Instrument(
        ensemble,
        probabilities,
        _area(probabilities, labels),
        interval,
        _size_area(size, labels, len(evidence.classes)),
        within_strata(probabilities, labels, strata(size)),
        _calibration(probabilities, labels),
        ensemble.disagreement(holdout.values),
    )


def sizes(values: Floats, modality: str) -> Floats:
    """[N] share of the grid inside masks [N, D, H, W]; of other modalities the mean intensity."""
    if modality == "mask":
        return size_of(values, hard=True)
    return np.asarray(values.mean(axis=(1, 2, 3)), dtype=np.float64)


def strata(size: Floats, edges: Floats | None = None) -> Integers:
    """[N] which fifth a size is in, of these sizes or of those whose inner edges [4] are given."""
    if edges is None:
        edges = np.quantile(size, np.arange(1, STRATA) / STRATA)
    return np.searchsorted(edges, size, side="right")


def within_strata(probabilities: Floats, labels: Integers, stratum: Integers) -> float:
    """Mean over classes of the AUC among pairs of one stratum; NaN without any such pair."""
    areas = []
    for c in range(probabilities.shape[1]):
        pairs, wins = 0.0, 0.0
        for s in np.unique(stratum):
            at = stratum == s
            positive = labels[at] == c
            weight = float(np.count_nonzero(positive) * np.count_nonzero(~positive))
            if weight:
                pairs += weight
                wins += weight * auc(probabilities[at, c], positive)
        if pairs:
            areas.append(wins / pairs)
    return float(np.mean(areas)) if areas else float("nan")


def _area(probabilities: Floats, labels: Integers) -> float:
    areas = [auc(probabilities[:, c], labels == c) for c in range(probabilities.shape[1])]
    return float(np.mean(areas))


def _size_area(size: Floats, labels: Integers, num_classes: int) -> float:
    areas = [auc(size, labels == c) for c in range(num_classes)]
    return float(np.mean([max(area, 1.0 - area) for area in areas]))


def _calibration(probabilities: Floats, labels: Integers) -> float:
    """|share that is right - mean confidence| over ten bins of confidence, by their weight.

    Source: Guo et al. 2017, "On calibration of modern neural networks", equation 3.
    """
    count = np.bincount(labels, minlength=probabilities.shape[1])
    weight = 1.0 / count[labels]
    weight = weight / weight.sum()
    sure = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    gap = np.bincount(place, weight * (right - sure), BINS)
    return float(np.abs(gap).sum())
