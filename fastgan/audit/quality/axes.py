"""Along these axes patients are large or small, bright or dark, typical of one class or another."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Floats, Integers, Texts
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.quality.patients import one_each
from fastgan.audit.quality.structures import structures
from fastgan.audit.statistics.discriminant import discriminant_scores
from fastgan.measures.descriptors import voxel_descriptors
from fastgan.measures.shape import shape_statistics

__all__ = ["axes_of"]

LEVELS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
"""Of the training volumes' range, above which voxels are counted."""
FOLDS = 3
RIDGE = 0.3

Pair = tuple[Floats, Floats]
"""An axis: patients [P], generated volumes [G]."""


def axes_of(evidence: Evidence, options: Options) -> tuple[dict[str, Pair], Integers | None]:
    """Name -> values of patients, one volume each, and of generated volumes; patients' labels.

    Masks have volume and form; pictures the share of voxels above levels of brightness in the whole
    volume and in its middle, which is where lesions lie and how large bodies are, and the size and
    contrast of the structure that stands out most in the middle. What the owner measured is an axis
    each. Where there are classes, a discriminant says how typical of each a volume is; no patient
    is read by one that was fitted to that patient.
    """
    rng = options.rng("quality/axes")
    training, holdout, made = evidence.training, evidence.holdout, evidence.require_generated()
    ours, theirs = (one_each(c.subjects, rng) for c in (training, holdout))
    patients = np.concatenate([training.values[ours], holdout.values[theirs]])
    if evidence.modality == "mask":
        found = [_forms(values, evidence.spacing) for values in (patients, made.values)]
    else:
        ends = np.quantile(training.values[ours], (0.005, 0.999))
        found = [_brightness(v, ends) | structures(v) for v in (patients, made.values)]
    axes = {name: (found[0][name], found[1][name]) for name in found[0]}
    for name in evidence.traits:
        own = (training.traits[name][ours], holdout.traits[name][theirs])
        axes[name] = (np.concatenate(own), np.asarray(made.traits[name]))
    if training.labels is None or holdout.labels is None:
        return axes, None
    truth = np.asarray(training.labels)
    labels = np.concatenate([truth[ours], np.asarray(holdout.labels)[theirs]])
    if len(np.unique(truth)) > 1 and min(made.values.shape[1:]) >= 4:
        described = [_described(v, found[i]) for i, v in enumerate((patients, made.values))]
        axes |= _typical(described, labels[: len(ours)], evidence.classes, rng)
    return axes, labels


def _forms(values: Floats, spacing: tuple[float, float, float]) -> dict[str, Floats]:
    shape = shape_statistics(np.clip((np.asarray(values) + 1) / 2, 0, 1), spacing)
    return {
        "volume": np.asarray(shape.volume, np.float64),
        "surface": np.nan_to_num(shape.surface_ratio),
        "elongation": np.nan_to_num(shape.elongation),
    }


def _brightness(values: Floats, ends: Floats) -> dict[str, Floats]:
    middle = tuple(slice(n // 4, n - n // 4) for n in values.shape[1:])
    out: dict[str, Floats] = {}
    for where, part in (("volume", values), ("middle", values[:, *middle])):
        flat = part.reshape(len(part), -1)
        for level in LEVELS:
            above = ends[0] + level * (ends[1] - ends[0])
            out[f"voxels of the {where} above {level:.0%}"] = (flat > above).mean(axis=1)
        out[f"contrast of the {where}"] = flat.std(axis=1, dtype=np.float64)
    return out


def _described(values: Floats, more: dict[str, Floats]) -> Floats:
    return np.concatenate(
        [voxel_descriptors(values), np.stack(list(more.values()), axis=1)], axis=1
    )


def _typical(
    described: list[Floats], labels: Integers, classes: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Pair]:
    """How typical of each class: every volume by one fold's discriminant, chosen by chance.

    Means of all folds would spread less than single ones, and generated volumes would seem to miss
    the extremes.
    """
    patients, made = described
    count = len(labels)
    fold = rng.permutation(count) % FOLDS
    by = [np.concatenate([fold, rng.integers(FOLDS, size=len(patients) - count)])]
    by.append(rng.integers(FOLDS, size=len(made)))
    names: Texts = np.array(classes)
    kept = range(1, 2) if len(names) == 2 else range(len(names))
    target = labels[:, None] == np.arange(len(names))
    scores = [np.zeros((len(rows), len(names))) for rows in described]
    for number in range(FOLDS):
        fitted = fold != number
        for rows, who, out in zip(described, by, scores, strict=True):
            chosen = who == number
            out[chosen] = discriminant_scores(
                patients[:count][fitted], target[fitted].astype(float), rows[chosen], ridge=RIDGE
            )
    return {f"typical of {names[c]}": (scores[0][:, c], scores[1][:, c]) for c in kept}
