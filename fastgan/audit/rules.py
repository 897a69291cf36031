"""All limits on which a verdict turns stand in one table, each with its unit, reason and source.

Wings read them by name, so a limit is never written where it is used. What only costs time (draws
of an interval, volumes at once) or describes a method (folds, quantiles) is no limit and stands
with its code. A limit whose source is "a choice" has not been derived from measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["RULES", "Rule", "limit", "table", "whole"]


class Rule(NamedTuple):
    """One limit of the audit."""

    name: str
    """The judgement or finding that turns on it, then what it is: "labels.delta"."""
    value: float
    unit: str
    reason: str
    source: str
    """Where the value comes from: a measurement, a publication, a convention or a choice."""


def limit(name: str) -> float:
    """The value of a rule."""
    return float(RULES[name].value)


def whole(name: str) -> int:
    """The value of a rule that counts something.

    Raises:
        ValueError: it is not a whole number.
    """
    value = RULES[name].value
    if value != int(value):
        raise ValueError(f"rules: {name} is {value:g} and counts nothing")
    return int(value)


def table() -> str:
    """The rules as a table in Markdown, as docs/audit/rules.md has it."""
    rows = [
        f"| {r.name} | {r.value:g} | {r.unit} | {r.reason} | {r.source} |" for r in RULES.values()
    ]
    return "\n".join(["| rule | value | unit | why | source |", "|---|---|---|---|---|", *rows])


_CONVENTION = "convention"
_CHOICE = "a choice"

_AUDIT = (
    Rule(
        "audit.alpha",
        0.05,
        "probability",
        "false alarms over all p-values of an audit together (Holm)",
        _CONVENTION,
    ),
    Rule(
        "audit.certified",
        0.95,
        "probability",
        "one-sided bounds by which a share is certified or refuted",
        _CONVENTION,
    ),
    Rule(
        "audit.tests",
        20,
        "tests",
        "a planted fault must be found at alpha over these: the first step of Holm's correction, "
        "so that a stated power is that of the verdict and not of a test by itself",
        "no audit has more findings with a p-value",
    ),
    Rule(
        "audit.permutations",
        999,
        "permutations",
        "the least p, 1 in 1,000, has to lie below alpha over the tests, 1 in 400",
        _CONVENTION,
    ),
    Rule(
        "audit.planted",
        300,
        "runs",
        "planted runs behind a point of a power curve: a share of 0.8 is then known to 5 points",
        _CHOICE,
    ),
    Rule(
        "audit.least_subjects",
        10,
        "subjects a group",
        "fewer on a side and no exchange of subjects reaches the level of the controls",
        _CHOICE,
    ),
    Rule(
        "audit.least_to_fit",
        20,
        "subjects a group",
        "fewer, and no classifier finds even a plain shortcut",
        _CHOICE,
    ),
    Rule(
        "controls.found",
        0.8,
        "share of runs",
        "a planted fault found less often may as well be missed; the customary power of a trial",
        _CONVENTION,
    ),
)

_EXCHANGE = (
    Rule(
        "exchange.kept",
        0.9,
        "share of the moves",
        "that whole subjects must keep of what single volumes allow: below it one volume of each "
        "is drawn, above it several volumes of a subject are worth more than the moves",
        _CHOICE,
    ),
    Rule(
        "exchange.least_traders",
        20,
        "subjects",
        "that may get another label: twice what a group needs at least",
        "follows from audit.least_subjects",
    ),
    Rule(
        "exchange.least_arrangements",
        400,
        "ways",
        "to trade: with fewer no p-value reaches alpha over the tests of an audit",
        "follows from audit.alpha and audit.tests",
    ),
)

_CONTROLS = (
    Rule(
        "controls.alarms_sure",
        0.999,
        "probability",
        "that a control without a fault alarms too often before its test is called broken: an "
        "audit has some twenty, and a broken one takes its verdict away",
        "1 in 50 sound audits then loses one verdict",
    ),
)

_MEMORIZATION = (
    Rule(
        "memorization.copies.least_null",
        120,
        "volumes",
        "that are no copies: 12 lie above the 90 % quantile, fewer leave no tail to fit",
        "bench/results/audit/size-few_copies.json",
    ),
    Rule(
        "memorization.copies.least_excesses",
        10,
        "volumes",
        "above the threshold from which a tail is fitted; fewer say nothing of its shape",
        "bench/results/audit/size-few_copies.json",
    ),
    Rule(
        "memorization.copies.decisive_noise",
        0.1,
        "typical distances of a held-out volume to training",
        "a copy with so little noise is one to any reader; the finding rests on its being found",
        "bench/results/audit/power-memorization-synthetic.json",
    ),
    Rule(
        "memorization.prevalence.largest_share",
        0.75,
        "share",
        "upper end of the share nearest to training that still passes: less than half is copied",
        _CHOICE,
    ),
    Rule(
        "memorization.prevalence.small_share",
        0.6,
        "share",
        "upper end up to which copying that was found is a warning: less than 1 in 5 is copied",
        _CHOICE,
    ),
    Rule(
        "memorization.prevalence.decisive_share",
        0.5,
        "share",
        "of the generated set replaced by copies: what a pass excludes must have been found",
        "follows from memorization.prevalence.largest_share",
    ),
    Rule(
        "memorization.prevalence.splits",
        99,
        "random splits",
        "more alarms than after all of these have a probability of 1 %: an audit has some twenty "
        "quiet controls, and at 1 in 20 one of them would cry wolf in most",
        _CHOICE,
    ),
)

_LABELS = (
    Rule(
        "labels.least_auc",
        0.65,
        "AUC",
        "the lower end of the classifier's interval has to reach it, or it judges no label",
        _CHOICE,
    ),
    Rule(
        "labels.power",
        0.95,
        "share of runs",
        "in which a planted fault of labels must be found; alarms in one of twenty are of chance",
        _CHOICE,
    ),
    Rule(
        "labels.augmentation.delta",
        0.05,
        "share",
        "largest share of flipped patients, and largest drift of a probability, that is tolerated",
        _CHOICE,
    ),
    Rule(
        "labels.generated.tolerated",
        0.1,
        "share",
        "largest share of wrong labels among generated volumes: readers of nodules differ by more",
        _CHOICE,
    ),
    Rule(
        "labels.generated.in_a_class",
        0.2,
        "share",
        "largest share among those of one class, which are fewer and so certified to less",
        _CHOICE,
    ),
    Rule(
        "labels.generated.decisive_share",
        0.5,
        "share",
        "of swapped labels from which on a judgement that misses them is of no use",
        _CHOICE,
    ),
    Rule(
        "labels.generated.clear",
        0.9,
        "probability",
        "from which a volume is read clearly: fewer than 1 in 20 such patients are misread",
        "bench/results/audit/power-generated_labels.json",
    ),
    Rule(
        "labels.generated.clarity",
        2.0,
        "ratio",
        "of misread clear volumes, generated over patients, that is allowed for: the unclearer "
        "volumes are, the more often a confident reading is wrong",
        _CHOICE,
    ),
    Rule(
        "labels.generated.least",
        20,
        "generated volumes a class",
        "fewer certify no share that would do: 0 wrong of 19 may be 15 %",
        "Clopper-Pearson",
    ),
    Rule(
        "labels.laws.most",
        1.0,
        "errors of half a voxel there and back",
        "the worst that two linear interpolations do; a law with a fault is several times above it",
        "tests/audit/test_labels.py",
    ),
)

_LEAKAGE = (
    Rule(
        "leakage.agreement",
        0.8,
        "share of subjects",
        "whose planted field goes with the label: a weaker one helps a network little",
        _CHOICE,
    ),
    Rule(
        "leakage.duplicates.found",
        1.0,
        "share of runs",
        "equal volumes are found by a hash, which misses none",
        "by construction",
    ),
)

_SHORTCUTS = (
    Rule(
        "shortcuts.marks.height",
        1.0,
        "standard deviations of a voxel",
        "of the planted mark on which the finding rests",
        _CHOICE,
    ),
    Rule(
        "shortcuts.marks.agreement",
        0.9,
        "share of subjects",
        "whose planted mark goes with the label; a scanner's mark is on every volume of it",
        _CHOICE,
    ),
    Rule(
        "shortcuts.marks.varying_share",
        0.02,
        "share of volumes",
        "that must differ from a voxel's median for it to be tested",
        _CHOICE,
    ),
    Rule(
        "shortcuts.marks.varying_volumes",
        10,
        "volumes",
        "that must differ from a voxel's median for it to be tested",
        _CHOICE,
    ),
    Rule(
        "shortcuts.edges.fixed",
        2.5,
        "deviations within a class",
        "by which the mean of a step between neighbours differs where an edge is drawn: between "
        "what clean sets of 67 patients and more reach and what marks of 30 % of the range do",
        "bench/results/audit/fixed_edges.json",
    ),
    Rule(
        "shortcuts.edges.by_chance",
        1.8,
        "deviations within a class",
        "that permuted labels may reach: above it chance and disease together come near the limit",
        "bench/results/audit/fixed_edges.json",
    ),
    Rule(
        "shortcuts.edges.height",
        0.6,
        "in [-1, 1]",
        "of the planted mark: 30 % of the range, plain to see in any volume",
        _CHOICE,
    ),
    Rule(
        "shortcuts.marks.whole_picture",
        0.25,
        "share of voxels",
        "that differ, above which the picture as a whole does and no mark is meant",
        _CHOICE,
    ),
    Rule(
        "shortcuts.goes_with_label",
        0.05,
        "p-value",
        "to which sites or scanners count as unevenly spread over the classes",
        _CONVENTION,
    ),
    Rule(
        "shortcuts.regions.height",
        1.0,
        "standard deviations between volumes",
        "of the planted shift of one block",
        _CHOICE,
    ),
    Rule(
        "shortcuts.regions.agreement",
        0.9,
        "share of subjects",
        "whose planted shift goes with the label",
        _CHOICE,
    ),
    Rule(
        "shortcuts.columns.shift",
        1.0,
        "standard deviations of the volumes' means",
        "by which volumes of a planted column are brighter: 0.8 was found in 65 % of runs in 133 "
        "head patients",
        _CHOICE,
    ),
    Rule(
        "shortcuts.columns.agreement",
        0.75,
        "share of subjects",
        "whose planted column goes with the label: both of its values then occur in each class",
        _CHOICE,
    ),
    Rule(
        "shortcuts.explained.telling",
        0.8,
        "AUC",
        "of a single statistic, from which the reader is warned",
        _CHOICE,
    ),
    Rule(
        "shortcuts.amplification.height",
        0.3,
        "in [-1, 1]",
        "by which the planted mark in a corner of generated volumes is brighter: plain to see "
        "beside the texture of lung or brain",
        _CHOICE,
    ),
    Rule(
        "shortcuts.amplification.least",
        20,
        "volumes a class and side",
        "fewer, and an AUC says nothing",
        _CHOICE,
    ),
    Rule(
        "shortcuts.swap.largest_share",
        0.02,
        "share of the squared change",
        "that may lie outside the bodies, on average",
        _CHOICE,
    ),
    Rule(
        "shortcuts.swap.most_filled",
        0.9,
        "share of voxels",
        "in bodies, above which there is no outside that could change",
        _CHOICE,
    ),
)

_SITES = (
    Rule(
        "sites.decisive",
        0.8,
        "standard deviations of the volumes' means",
        "planted offset that must be found at the full number of subjects",
        "a large effect (Cohen 1988)",
    ),
)

_QUALITY = (
    Rule(
        "quality.distance.floor",
        0.975,
        "quantile",
        "of training subjects to held-out ones, above which a distance is one of the generator",
        _CONVENTION,
    ),
    Rule(
        "quality.distance.widest",
        10.0,
        "ranges of the distance of training subjects to held-out ones",
        "by which the upper end of the interval may exceed the floor and still say something",
        _CHOICE,
    ),
    Rule(
        "quality.repetition.closeness",
        0.5,
        "distances of a patient to the nearest other, median",
        "below which two volumes are twins: patients of three data families hardly ever are",
        "bench/results/audit/power-quality.json",
    ),
    Rule(
        "quality.repetition.few",
        1.0,
        "distinct volumes per training patient",
        "fewer, and the set holds less than the patients it was learned from",
        _CHOICE,
    ),
    Rule(
        "quality.repetition.enough",
        2.0,
        "distinct volumes per training patient",
        "lower end from which it passes",
        _CHOICE,
    ),
    Rule(
        "quality.kinds.missing",
        0.75,
        "ratio of shares, generated over patients",
        "upper end, over all parts together, below which a kind of patient is missing or rare",
        "bench/results/audit/power-quality.json",
    ),
    Rule(
        "quality.kinds.present",
        1 / 3,
        "ratio of shares, generated over patients",
        "lower end that every fifth has to exceed: what 200 patients and 300 volumes can show",
        "bench/results/audit/power-quality.json",
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
        _CHOICE,
    ),
    Rule(
        "quality.coverage.certified",
        0.3,
        "share of held-out patients",
        "that may at most be missed, at the lower end of the interval, for a pass",
        _CHOICE,
    ),
    Rule(
        "quality.diversity.least",
        0.8,
        "ratio",
        "mean distance within generated volumes over that within held-out ones that passes",
        _CHOICE,
    ),
)

_FIDELITY = (
    Rule(
        "fidelity.auc_gap",
        0.05,
        "AUC",
        "by which volume may tell the classes better or worse than among held-out masks",
        _CHOICE,
    ),
    Rule(
        "fidelity.ks_volume",
        0.25,
        "Kolmogorov-Smirnov distance",
        "largest between the volumes of generated and of held-out masks of a class",
        _CHOICE,
    ),
    Rule(
        "fidelity.ks_form",
        0.35,
        "Kolmogorov-Smirnov distance",
        "largest between surfaces, or elongations, of generated and of held-out masks of a class",
        _CHOICE,
    ),
    Rule(
        "fidelity.nearest_low",
        0.8,
        "ratio",
        "of distances to training, generated over held-out: below it masks are copied",
        _CHOICE,
    ),
    Rule(
        "fidelity.nearest_high",
        1.25,
        "ratio",
        "of distances to training, generated over held-out: above it masks are unlike patients'",
        "as far from 1 as fidelity.nearest_low",
    ),
)

_TRANSLATION = (
    Rule(
        "translation.tolerated",
        0.1,
        "share of patients",
        "with a lost, moved, inverted or invented structure",
        _CHOICE,
    ),
    Rule(
        "translation.least_subjects",
        5,
        "subjects",
        "whose translations say anything: here each is its own control",
        _CHOICE,
    ),
    Rule(
        "translation.lesions.contrast",
        6.0,
        "standard deviations of the surroundings",
        "of what is planted: plain to any reader",
        _CHOICE,
    ),
    Rule(
        "translation.lesions.visible",
        3.0,
        "standard deviations of the surroundings",
        "from which a place is seen without being told where",
        _CHOICE,
    ),
    Rule(
        "translation.lesions.kept",
        0.5,
        "share of the conspicuity",
        "or of its loss, that has to come through",
        _CHOICE,
    ),
    Rule(
        "translation.lesions.unseen",
        0.25,
        "share of the conspicuity",
        "up to which the other side shows nothing",
        _CHOICE,
    ),
    Rule(
        "translation.lesions.taken",
        0.5,
        "share of the conspicuity",
        "that has to be erased to count",
        _CHOICE,
    ),
    Rule(
        "translation.lesions.least",
        1.0,
        "standard deviations of the surroundings",
        "from which there is something to erase",
        _CHOICE,
    ),
)

RULES: Mapping[str, Rule] = {
    rule.name: rule
    for part in (
        _AUDIT,
        _EXCHANGE,
        _CONTROLS,
        _MEMORIZATION,
        _LABELS,
        _LEAKAGE,
        _SHORTCUTS,
        _SITES,
        _QUALITY,
        _FIDELITY,
        _TRANSLATION,
    )
    for rule in part
}
"""Name -> rule, in the order of the report."""
