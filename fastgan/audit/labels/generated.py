"""Are generated volumes of the class they are labelled with?"""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, cannot_tell
from fastgan.audit.labels.agreement import agreement, at_equal_sizes
from fastgan.audit.labels.enough import enough
from fastgan.audit.labels.instrument import POWER, Instrument
from fastgan.audit.labels.noise import (
    CLARITY,
    CLEAREST,
    MORE,
    SURE,
    Clear,
    Noise,
    Reader,
    clear,
    noise,
    reader,
    sure_from,
    wrong_labels_of_patients,
)
from fastgan.audit.rules import limit, whole
from fastgan.audit.statistics import clopper_pearson
from fastgan.errors import AuditError

__all__ = ["GENERATED", "TOLERATED", "decided", "judge_generated"]

GENERATED = Question(
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


def judge_generated(evidence: Evidence, options: Options, tool: Instrument) -> Finding:
    """Finding labels.generated.

    Raises:
        AuditError: no generated volumes with labels, fewer than 20 of a class, or fewer than 10
            subjects of a class whom the classifier reads clearly.
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
    if tool.weak:
        return Finding(*GENERATED, cannot_tell(tool.weak), n_volumes=len(generated))
    read = tool.ensemble.probabilities(generated.values)
    patients = _Patients(evidence, tool)
    real = patients.reader()
    made = clear(read, asked, real.sure)
    bounds, surely = noise(real, made, LEVEL), noise(real, made, _sure(len(classes)))
    planted = () if options.quick else _controls(patients, counts, options)
    worst = int(np.argmax(bounds.share))
    return Finding(
        *GENERATED,
        decided(real, made, classes, patients.count),
        value=float(bounds.share[worst]),
        value_name=f"share of wrong labels among generated {classes[worst]} that are read clearly",
        interval=(float(surely.low[worst]), float(surely.high[worst])),
        floor=wrong_labels_of_patients(real),
        floor_name="patients' own labels that the classifier contradicts, where it reads clearly",
        n_volumes=len(generated),
        n_subjects=patients.count,
        power=_power(planted),
        controls=planted,
        tables=(
            agreement(real, made, bounds, classes),
            at_equal_sizes(evidence, tool, generated, read.argmax(1), tool.probabilities.argmax(1)),
        ),
        methods=(
            f"Volumes read with a probability of at least {SURE:g}, or than {CLEAREST:.0%} of the "
            "patients who are read as the same class. Of those labelled c, a share m "
            "is read as another class: m = (1 - q) f + q (1 - e), q wrong labels, f misread, e of "
            "other classes read as c. f and e are bounded on patients (held-out ones, and training "
            "ones by the network that never saw them), patients' volumes counted for less as they "
            "resemble each other. Generated volumes may be clearer than patients or less so: the "
            "upper bound of q takes f = 0 and the largest e, the lower one e = 0 and m less f, as "
            f"uncertain as both are, and less {CLARITY:g} f and {MORE:.0%} at least. "
            "Passes when the one-sided 95 % bound is at most "
            f"{TOLERATED:.0%} over all and {IN_A_CLASS:.0%} in every class, fails when a class is "
            f"surely above {TOLERATED:.0%}, corrected for classes. {tool.ensemble.provenance}."
        ),
        limits=(
            "Of volumes that are not read clearly nothing is said. A volume of poor quality may be "
            "misread although it was generated from the right label. What the patients' own labels "
            "have wrong, a generator learns; that is the data's noise, not its fault."
        ),
    )


class _Patients:
    """Readings of all patients by networks that never saw them."""

    def __init__(self, evidence: Evidence, tool: Instrument) -> None:
        training, holdout = evidence.training, evidence.holdout
        ours = tool.ensemble.probabilities(training.values, training.subjects)
        self.read = np.concatenate([ours, tool.probabilities])
        self.labels = np.concatenate([np.asarray(training.labels), np.asarray(holdout.labels)])
        self.subjects = np.concatenate([training.subjects, holdout.subjects])
        self.count = len(np.unique(self.subjects))
        self.sure = sure_from(self.read)

    def reader(self, chosen: Integers | None = None) -> Reader:
        """Of all, or of volumes by positions, some more than once."""
        at = np.arange(len(self.read)) if chosen is None else chosen
        return reader(self.read[at], self.labels[at], self.subjects[at], self.sure)


def _sure(classes: int) -> float:
    """The level at which a class is condemned: over classes and all together, on both sides."""
    return 1 - (1 - LEVEL) / (2 * (classes + 1))


def decided(real: Reader, made: Clear, classes: tuple[str, ...], patients: int) -> Outcome:
    """What follows from how patients, so many, and generated volumes are read."""
    clearly = f"the {int(made.clear.sum())} that the classifier reads clearly"
    warned = _alarm(real, made, classes, clearly)
    if warned is not None:
        return warned
    bounds = noise(real, made, LEVEL)
    own, most = wrong_labels_of_patients(real), float(bounds.high.max())
    found = (
        f"of {int(made.counts.sum())} generated volumes, among {clearly}, at most "
        f"{bounds.overall_high:.1%} in all and {most:.1%} in a class (95 %)"
    )
    noted = ""
    if own >= 0.02:
        noted = f" It contradicts {own:.0%} of the patients' own labels, where it reads clearly."
    vague = _vague(real, made)
    if vague:
        return cannot_tell(vague, "look at the unclear ones; a classifier cannot judge them")
    if _certified(bounds):
        return Outcome(
            "pass", f"No evidence of wrong labels among generated volumes: {found}.{noted}"
        )
    then = enough(
        real,
        made,
        patients,
        lambda r, m: _certified(noise(r, m, LEVEL)) or _alarm(r, m, classes, "") is not None,
    )
    if own >= TOLERATED / 2:
        then += "; and check the patients' labels: a generator cannot do better than they are"
    return Outcome(
        "cannot tell",
        f"Cannot tell whether generated volumes carry the right label: {found}; {TOLERATED:.0%} "
        f"and {IN_A_CLASS:.0%} would do.{noted} Next: {then}.",
    )


def _certified(bounds: Noise) -> bool:
    return bounds.overall_high <= TOLERATED and float(bounds.high.max()) <= IN_A_CLASS


def _alarm(real: Reader, made: Clear, classes: tuple[str, ...], clearly: str) -> Outcome | None:
    """What is surely wrong, of generated volumes that are told as `clearly`; None if nothing is."""
    bounds, surely = noise(real, made, LEVEL), noise(real, made, _sure(len(classes)))
    worst = int(np.argmax(surely.low))
    if surely.low[worst] > 0.0:
        told = f"about {bounds.share[worst]:.0%} of {clearly} (at least {surely.low[worst]:.0%})"
        if surely.low[worst] > TOLERATED:
            return Outcome(
                "fail",
                f"Generated volumes labelled {classes[worst]} are often of another class: {told}.",
            )
        return Outcome(
            "warn",
            f"Some generated volumes labelled {classes[worst]} are of another class: {told}.",
        )
    if surely.overall_low > 0.0:
        return Outcome(
            "warn",
            f"Some generated volumes are of another class than their label: about "
            f"{bounds.overall:.0%} of {clearly} (at least {surely.overall_low:.0%}).",
        )
    return None


def _vague(real: Reader, made: Clear) -> str:
    """Why clear volumes do not speak for the others, or ""."""
    shares = 1 - made.clear / made.counts
    for c, share in enumerate(shares):
        off, count = int(made.counts[c] - made.clear[c]), int(made.counts[c])
        least = clopper_pearson(off, count, 0.99, "lower")[0]
        size = max(1, round(float(real.unclear_size[c])))
        most = clopper_pearson(round(float(real.unclear[c]) * size), size, 0.99, "upper")[1]
        if least > most:
            return (
                f"the classifier is unsure of {share:.0%} of the generated volumes of a class, and "
                f"of {real.unclear[c]:.0%} of the patients, so the clear ones do not speak for all"
            )
    return ""


def _controls(patients: _Patients, counts: Integers, options: Options) -> tuple[Control, ...]:
    """Patients, drawn again, pose as generated with labels swapped in a share; read by the others.

    The quiet controls are right labels, as clear as patients and all of them clear.
    """
    rng, runs = options.rng("labels/planted"), options.planted
    planted: list[Control] = []
    quiet = ("right labels", False), ("right labels, clear cases only", True)
    for name, only in quiet:
        hits = sum(_alarmed(patients, counts, 0.0, only, rng) for _ in range(runs))
        planted.append(controls.quiet(name, hits, runs, at_most=2 * (1 - POWER)))
    for share in PLANTED:
        hits = sum(_alarmed(patients, counts, share, False, rng) for _ in range(runs))
        name, decisive = f"{share:.0%} of labels swapped", share >= DECISIVE
        planted.append(controls.found(name, hits, runs, at_least=POWER, decisive=decisive))
    return tuple(planted)


def _alarmed(
    patients: _Patients, counts: Integers, share: float, only: bool, rng: np.random.Generator
) -> bool:
    """Whether some label is surely wrong, with half of the patients as generated volumes."""
    who = np.unique(patients.subjects)
    posing = np.isin(patients.subjects, rng.permutation(who)[: len(who) // 2])
    sure = patients.sure[patients.read.argmax(axis=1)]
    kept = posing & (patients.read.max(axis=1) >= sure) if only else posing
    kinds = len(counts)
    chosen = []
    for c in range(kinds):
        pool = np.flatnonzero(kept & (patients.labels == c))
        if not len(pool):
            return False
        chosen.append(rng.choice(pool, counts[c]))
    drawn = np.concatenate(chosen)
    labels = patients.labels[drawn]
    wrong = rng.random(len(drawn)) < share
    labels = np.where(wrong, (labels + rng.integers(1, kinds, len(drawn))) % kinds, labels)
    try:
        real = patients.reader(np.flatnonzero(~posing))
    except AuditError:  # too few of a class in this half
        real = patients.reader()
    bounds = noise(real, clear(patients.read[drawn], labels, real.sure), _sure(kinds))
    return bool((bounds.low > 0.0).any() or bounds.overall_low > 0.0)


def _power(planted: tuple[Control, ...]) -> str:
    found = [c for c in planted if c.expected == "found"]
    if not found:
        return ""
    curve = ", ".join(f"{c.rate:.0%} at {c.name.split(' ')[0]}" for c in found)
    return f"swapped labels are found with power {curve}"
