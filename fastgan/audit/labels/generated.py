"""Are generated volumes of the class they are labelled with?"""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, cannot_tell
from fastgan.audit.labels.instrument import POWER, Instrument, sizes, strata
from fastgan.audit.labels.noise import Agreement, Noise, agreement, noise, planted_noise
from fastgan.audit.rules import limit, whole
from fastgan.audit.statistics import clopper_pearson
from fastgan.errors import AuditError

__all__ = ["TOLERATED", "judge_generated"]

QUESTION = Question(
    "labels", "labels.generated", "Do generated volumes show the class that they are labelled with?"
)
TOLERATED = limit("labels.generated.tolerated")
"""Largest share of wrong labels among generated volumes: readers of nodules differ by more."""
IN_A_CLASS = limit("labels.generated.in_a_class")
"""Largest share among those of one class, which are fewer and so certified to less."""
LEVEL = limit("audit.certified")
PLANTED = (0.1, 0.2, 0.3, 0.5, 1.0)
DECISIVE = limit("labels.generated.decisive_share")
LEAST = whole("labels.generated.least")
FEW = 5  # volumes of a stratum, below which it says nothing


def judge_generated(evidence: Evidence, options: Options, tool: Instrument) -> Finding:
    """Finding labels.generated.

    Raises:
        AuditError: no generated volumes with labels, fewer than 20 of a class, or a class of fewer
            than 10 held-out subjects.
    """
    generated, holdout = evidence.require_generated(), evidence.holdout
    if generated.labels is None or holdout.labels is None:
        raise AuditError("labels: generated and held-out volumes need labels")
    classes = evidence.classes
    asked = np.asarray(generated.labels)
    counts = np.bincount(asked, minlength=len(classes))
    if counts.min() < LEAST:
        few = int(counts.argmin())
        raise AuditError(
            f"labels: {counts[few]} generated volumes of class {classes[few]}, at least {LEAST} "
            "are needed"
        )
    said = tool.ensemble.probabilities(generated.values).argmax(1)
    truth = np.asarray(holdout.labels)
    real_said = tool.probabilities.argmax(1)
    real = agreement(real_said, truth, holdout.subjects, len(classes))
    found = np.bincount(asked[said == asked], minlength=len(classes))
    draws = options.rng("labels/generated")
    bounds = noise(real, found, counts, draws, LEVEL)
    surely = noise(real, found, counts, draws, 1 - (1 - LEVEL) / (2 * len(classes)))
    planted = () if options.quick else _controls(real, counts, options)
    worst = int(np.argmax(bounds.share))
    return Finding(
        *QUESTION,
        _outcome(tool, bounds, surely, classes),
        value=float(bounds.share[worst]),
        value_name=f"share of wrong labels among generated {classes[worst]}",
        interval=(float(surely.low[worst]), float(surely.high[worst])),
        floor=0.0,
        floor_name="held-out patients, by definition",
        n_volumes=len(generated),
        n_subjects=holdout.n_subjects,
        power=_power(planted, noise(real, real.own * counts, counts, draws, LEVEL)),
        controls=planted,
        tables=(
            _table(real, found, counts, bounds, classes),
            _matched(evidence, tool, generated, said, real_said),
        ),
        methods=(
            "A classifier errs, so agreement on generated volumes g is compared with agreement on "
            "held-out patients: a of the class itself, e of the others; share of wrong labels = "
            "(a - g) / (a - e). Bounds from Beta distributions of a, e and g, the number of "
            "patients' volumes reduced by their resemblance within a patient. Certified when the "
            f"one-sided 95 % bound is at most {TOLERATED:.0%} over all and {IN_A_CLASS:.0%} in "
            f"every class, refuted when a class is surely above {TOLERATED:.0%}, corrected for "
            f"classes. {tool.ensemble.provenance}."
        ),
        limits=(
            "A volume of poor quality may be misread although it was generated from the right "
            "label; the classifier cannot tell the two apart. Labels of patients are taken as true."
        ),
    )


def _outcome(tool: Instrument, bounds: Noise, surely: Noise, classes: tuple[str, ...]) -> Outcome:
    if tool.weak:
        return cannot_tell(tool.weak)
    worst = int(np.argmax(surely.low))
    if surely.low[worst] > TOLERATED:
        return Outcome(
            "fail",
            f"Generated volumes labelled {classes[worst]} are often of another class: about "
            f"{min(bounds.share[worst], 1.0):.0%} (at least {surely.low[worst]:.0%}).",
        )
    if surely.low[worst] > 0.0:
        return Outcome(
            "warn",
            f"Some generated volumes labelled {classes[worst]} are of another class: about "
            f"{bounds.share[worst]:.0%} (at least {surely.low[worst]:.0%}, at most "
            f"{bounds.high[worst]:.0%}).",
        )
    clearest = int(np.argmin(surely.high))
    if surely.high[clearest] < -TOLERATED:
        return Outcome(
            "warn",
            f"Generated volumes labelled {classes[clearest]} are more typical of their class than "
            "patients are: borderline cases are missing among them.",
        )
    most = float(bounds.high.max())
    found = f"at most {bounds.overall_high:.1%} in all, {most:.1%} in a class (95 %)"
    if bounds.overall_high <= TOLERATED and most <= IN_A_CLASS:
        return Outcome("pass", f"No evidence of wrong labels among generated volumes: {found}.")
    return Outcome(
        "cannot tell",
        f"Cannot tell whether generated volumes carry the right label: {found}; {TOLERATED:.0%} "
        f"and {IN_A_CLASS:.0%} would do.",
    )


def _table(
    real: Agreement, found: Integers, counts: Integers, bounds: Noise, classes: tuple[str, ...]
) -> Table:
    rows = []
    for c, name in enumerate(classes):
        low, high = clopper_pearson(int(found[c]), int(counts[c]))
        rows.append(
            (
                name,
                f"{found[c]} of {counts[c]} ({low:.0%} to {high:.0%})",
                f"{real.own[c]:.1%} (worth {real.own_size[c]:.0f} volumes)",
                f"{real.other[c]:.1%}",
                f"{bounds.share[c]:+.1%}",
                f"{bounds.high[c]:.1%}",
            )
        )
    return Table(
        "Is the label what the classifier sees?",
        (
            "label",
            "generated that agree",
            "patients that agree",
            "others taken for it",
            "wrong labels",
            "at most (95 %)",
        ),
        tuple(rows),
        note="Below 0: generated volumes are clearer cases than patients.",
    )


def _matched(
    evidence: Evidence, tool: Instrument, generated: Cohort, said: Integers, real_said: Integers
) -> Table:
    """Agreement of patients brought to the sizes of generated volumes of the same class."""
    holdout = evidence.holdout
    truth, asked = np.asarray(holdout.labels), np.asarray(generated.labels)
    real_size = sizes(holdout.values, evidence.modality)
    edges = np.quantile(real_size, np.arange(1, 5) / 5)
    ours, theirs = (
        strata(sizes(generated.values, evidence.modality), edges),
        strata(real_size, edges),
    )
    rows = []
    for c, name in enumerate(evidence.classes):
        weight, seen, drawn = [], [], []
        for s in range(5):
            patients = (truth == c) & (theirs == s)
            made = (asked == c) & (ours == s)
            if min(patients.sum(), made.sum()) < FEW:
                continue
            weight.append(int(made.sum()))
            seen.append(float((real_said[patients] == c).mean()))
            drawn.append(float((said[made] == c).mean()))
        covered = sum(weight) / max(1, int((asked == c).sum()))
        if not weight:
            rows.append((name, "no sizes in common", "", f"{covered:.0%}"))
            continue
        rows.append(
            (
                name,
                f"{np.average(seen, weights=weight):.1%}",
                f"{np.average(drawn, weights=weight):.1%}",
                f"{covered:.0%}",
            )
        )
    return Table(
        "The same at equal sizes",
        ("label", "patients that agree", "generated that agree", "generated compared"),
        tuple(rows),
        note=(
            f"In fifths of size with at least {FEW} volumes of each, weighted by the generated. "
            f"Size alone has an AUC of {tool.size_area:.2f}; among like sizes the classifier has "
            f"{tool.within_size:.2f}."
        ),
    )


def _controls(real: Agreement, counts: Integers, options: Options) -> tuple[Control, ...]:
    rng, runs = options.rng("labels/planted"), options.planted
    level = 1 - (1 - LEVEL) / (2 * len(counts))
    planted = []
    for share in (0.0, *PLANTED):
        hits = 0
        for _ in range(runs):
            sample, found = planted_noise(real, counts, share, rng)
            # Decided as by the judgement: some labels are surely wrong.
            hits += bool((noise(sample, found, counts, rng, level).low > 0.0).any())
        if share == 0.0:
            planted.append(
                controls.quiet("right labels", hits, runs, at_most=2 * (1 - POWER), by="rate")
            )
            continue
        name, decisive = f"{share:.0%} of labels swapped", share >= DECISIVE
        planted.append(controls.found(name, hits, runs, at_least=POWER, decisive=decisive))
    return tuple(planted)


def _power(planted: tuple[Control, ...], best: Noise) -> str:
    found = [c for c in planted if c.expected == "found"]
    if not found:
        return ""
    curve = ", ".join(f"{c.rate:.0%} at {c.name.split(' ')[0]}" for c in found)
    return (
        f"swapped labels are found with power {curve}; the smallest share that could be certified "
        f"here is {best.overall_high:.1%}"
    )
