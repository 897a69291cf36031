"""Limits of quality, the demo's comparison and translation."""

from __future__ import annotations

from fastgan.audit.rules.rule import CHOICE, CONVENTION, Rule

__all__ = ["FIDELITY", "QUALITY", "TRANSLATION"]

QUALITY = (
    Rule(
        "quality.distance.floor",
        0.975,
        "quantile",
        "of patients dealt at random to other patients, above which a distance is the generator's",
        CONVENTION,
    ),
    Rule(
        "quality.distance.widest",
        10.0,
        "ranges of the distance of patients dealt at random to other patients",
        "by which the upper end of the interval may exceed the floor and still say something",
        CHOICE,
    ),
    Rule(
        "quality.repetition.closeness",
        0.5,
        "distances of a patient to the nearest other, median",
        "below which two volumes are twins: patients of three data families hardly ever are",
        "bench/results/audit/power-quality.json",
    ),
    Rule(
        "quality.repetition.rare",
        10.0,
        "distinct volumes per training patient",
        "that patients themselves are worth at least: where some are much alike, twins have to lie "
        "closer; five times what passes, as patients' pairs are few",
        "bench/results/audit/size-quality.json",
    ),
    Rule(
        "quality.repetition.few",
        1.0,
        "distinct volumes per training patient",
        "fewer, and the set holds less than the patients it was learned from",
        CHOICE,
    ),
    Rule(
        "quality.repetition.enough",
        2.0,
        "distinct volumes per training patient",
        "lower end from which it passes",
        CHOICE,
    ),
    Rule(
        "quality.kinds.missing",
        0.75,
        "ratio of shares, generated over patients",
        "below which a part of the patients that is significantly rarer, over all parts together, "
        "is missing or rare",
        "bench/results/audit/power-quality.json",
    ),
    Rule(
        "quality.kinds.seen",
        0.5,
        "correlation",
        "of an axis with the trait of which a fifth is left out of pictures, for a control: the "
        "axes see radii of two voxels with .4 (heads) to .6 (fields), nodules in lung with .9",
        "bench/results/audit/lesion-axes.json",
    ),
    Rule(
        "quality.kinds.present",
        1 / 5,
        "ratio of shares, generated over patients",
        "lower end that every fifth has to exceed: what 200 patients and 300 volumes can show in "
        "the lowest of a hundred parts; of a missing fifth an eighth remains for errors of a tenth",
        CHOICE,
    ),
    Rule(
        "quality.kinds.named",
        1.2,
        "times",
        "that the statistics of what the owner measured count more in the test of all axes: it was "
        "named before anything was seen, while two dozen other axes were not",
        CHOICE,
    ),
    Rule(
        "quality.spectrum.tolerated",
        1.0,
        "standard deviations between patients",
        "of log power in a band; a larger shift is a large effect twice over (Cohen 1988: 0.8)",
        "bench/results/audit/power-quality.json",
    ),
    Rule(
        "quality.coverage.tolerated",
        0.05,
        "share of held-out patients",
        "that generated volumes may reach less than as many training patients do",
        CHOICE,
    ),
    Rule(
        "quality.coverage.certified",
        0.3,
        "share of held-out patients",
        "that may at most be missed, at the lower end of the interval, for a pass",
        CHOICE,
    ),
    Rule(
        "quality.diversity.least",
        0.8,
        "ratio",
        "mean distance within generated volumes over that within held-out ones that passes",
        CHOICE,
    ),
)

FIDELITY = (
    Rule(
        "fidelity.auc_gap",
        0.05,
        "AUC",
        "by which volume may tell the classes better or worse than among held-out masks",
        CHOICE,
    ),
    Rule(
        "fidelity.ks_volume",
        0.25,
        "Kolmogorov-Smirnov distance",
        "largest between the volumes of generated and of held-out masks of a class",
        CHOICE,
    ),
    Rule(
        "fidelity.ks_form",
        0.35,
        "Kolmogorov-Smirnov distance",
        "largest between surfaces, or elongations, of generated and of held-out masks of a class",
        CHOICE,
    ),
    Rule(
        "fidelity.nearest_low",
        0.8,
        "ratio",
        "of distances to training, generated over held-out: below it masks are copied",
        CHOICE,
    ),
    Rule(
        "fidelity.nearest_high",
        1.25,
        "ratio",
        "of distances to training, generated over held-out: above it masks are unlike patients'",
        "as far from 1 as fidelity.nearest_low",
    ),
)

TRANSLATION = (
    Rule(
        "translation.tolerated",
        0.1,
        "share of patients",
        "with a lost, moved, inverted or invented structure",
        CHOICE,
    ),
    Rule(
        "translation.least_subjects",
        5,
        "subjects",
        "whose translations say anything: here each is its own control",
        CHOICE,
    ),
    Rule(
        "translation.lesions.contrast",
        6.0,
        "standard deviations of the surroundings",
        "of what is planted: plain to any reader",
        CHOICE,
    ),
    Rule(
        "translation.lesions.visible",
        3.0,
        "standard deviations of the surroundings",
        "from which a place is seen without being told where",
        CHOICE,
    ),
    Rule(
        "translation.lesions.kept",
        0.5,
        "share of the conspicuity",
        "or of its loss, that has to come through",
        CHOICE,
    ),
    Rule(
        "translation.lesions.unseen",
        0.25,
        "share of the conspicuity",
        "up to which the other side shows nothing",
        CHOICE,
    ),
    Rule(
        "translation.lesions.taken",
        0.5,
        "share of the conspicuity",
        "that has to be erased to count",
        CHOICE,
    ),
    Rule(
        "translation.lesions.least",
        1.0,
        "standard deviations of the surroundings",
        "from which there is something to erase",
        CHOICE,
    ),
)
