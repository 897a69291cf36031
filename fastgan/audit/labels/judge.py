"""Do labels survive augmentation, and do generated volumes show theirs?

A label y of a volume x is kept by a transform T if p(y | T(x)) = p(y | x), and by a generator if
its volumes of class y are of class y. A classifier that had no part in either is asked; it is
trained on the training split (`labels.classifier`), and how well it reads unseen patients is a
finding of its own, on which the others rest.
"""

from __future__ import annotations

import numpy as np

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Finding, Outcome, Question, Table, cannot_tell
from fastgan.audit.labels.augmentation import judge_augmentation, listed
from fastgan.audit.labels.generated import judge_generated
from fastgan.audit.labels.instrument import LEAST_AUC, Instrument, instrument
from fastgan.audit.labels.laws import check_laws

__all__ = ["judge"]

CLASSIFIER = Question(
    "labels",
    "labels.classifier",
    "Can a classifier read the labels at all, so that it may judge them?",
)
LAWS = Question("labels", "labels.laws", "Does geometric augmentation move voxels as it says?")
LAW_VOLUMES = 24


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Findings labels.classifier, labels.augmentation, labels.generated, labels.laws.

    Raises:
        AuditError: no classes, or a class of fewer than 10 subjects in training or hold-out.

    Cost: training the classifier (30 s of one core at 32^3), then about 25 passes over one volume
    of each subject.
    """
    tool = instrument(evidence, options)
    findings = [_instrument(evidence, tool), judge_augmentation(evidence, options, tool)]
    if evidence.generated is not None and evidence.generated.labels is not None:
        findings.append(judge_generated(evidence, options, tool))
    return [*findings, _laws(evidence, options)]


def _instrument(evidence: Evidence, tool: Instrument) -> Finding:
    holdout = evidence.holdout
    low, high = tool.interval
    if tool.weak:
        outcome = cannot_tell(tool.weak)
    else:
        outcome = Outcome(
            "pass",
            f"The classifier reads labels of patients it never saw: AUC {tool.area:.2f} ({low:.2f} "
            f"to {high:.2f}, {holdout.n_subjects} patients); size alone has {tool.size_area:.2f}.",
        )
    rows = (
        ("AUC, each class against the others", round(tool.area, 3)),
        ("95 % interval", f"{low:.3f} to {high:.3f}"),
        ("AUC of size alone", round(tool.size_area, 3)),
        ("AUC among volumes of like size (fifths)", round(tool.within_size, 3)),
        ("expected calibration error", round(tool.calibration, 3)),
        ("two members disagree", f"{tool.disagreement:.1%}"),
    )
    return Finding(
        *CLASSIFIER,
        outcome,
        value=tool.area,
        value_name="AUC on held-out patients",
        interval=tool.interval,
        floor=tool.size_area,
        floor_name="AUC of size alone",
        n_volumes=len(holdout),
        n_subjects=holdout.n_subjects,
        by_construction=f"nothing rests on it unless the interval lies above {LEAST_AUC:g}",
        tables=(Table("The classifier on held-out patients", ("figure", "value"), rows),),
        methods=(
            f"{len(tool.ensemble.members)} small 3D networks, each trained without one part of the "
            "training subjects, on volumes shifted by a few voxels; temperature fitted on what "
            "each left out; held-out volumes read by their mean. Interval: held-out subjects "
            f"drawn with replacement. {tool.ensemble.provenance}."
        ),
        limits=(
            "It reads what the training labels say, right or wrong. Where size tells most, what it "
            "says beside size is in the row of like sizes."
        ),
    )


def _laws(evidence: Evidence, options: Options) -> Finding:
    cohort = evidence.training
    some = options.rng("labels/laws").permutation(len(cohort))[:LAW_VOLUMES]
    laws = check_laws(cohort.values[np.sort(some)], evidence.spacing)
    rows = tuple((law.name, round(law.error, 3)) for law in laws)
    broken = [law.name for law in laws if not law.holds]
    worst = max(laws, key=lambda law: law.error)
    if broken:
        outcome = Outcome(
            "fail", f"Geometric augmentation breaks a law of its own: {listed(broken)}."
        )
    else:
        outcome = Outcome(
            "pass",
            "No evidence of faults in geometric augmentation: inverses and compositions agree "
            "within what interpolation costs.",
        )
    return Finding(
        *LAWS,
        outcome,
        value=worst.error,
        value_name="largest error, in errors of half a voxel there and back",
        floor=1.0,
        floor_name="half a voxel there and back",
        n_volumes=len(some),
        n_subjects=len(np.unique(cohort.subjects[np.sort(some)])),
        by_construction="every law is computed on these volumes, not sampled",
        tables=(Table("Laws", ("law", "error"), rows),),
        methods=(
            "10 degrees about each axis and a zoom of 1.1 of `data.augment`; root mean square "
            "difference within a ball that no edge reaches."
        ),
    )
