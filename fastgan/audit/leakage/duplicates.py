"""Who is on both sides of the split, by name and by voxels?"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from fastgan.arrays import Bools, Texts
from fastgan.audit import controls
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, cannot_tell
from fastgan.audit.rules import limit

__all__ = ["DUPLICATES", "SUBJECTS", "digests", "repeated_volumes", "shared_subjects"]

SUBJECTS = Question(
    "leakage",
    "leakage.subjects",
    "Is any subject in both the training and the held-out set?",
)
DUPLICATES = Question(
    "leakage",
    "leakage.duplicates",
    "Is any volume in the data twice, under another subject or on the other side?",
)
COPIES = 20


def shared_subjects(evidence: Evidence, _: Options) -> Finding:
    """Subjects and files that are on both sides."""
    training, holdout = evidence.training, evidence.holdout
    both = np.intersect1d(training.subjects, holdout.subjects)
    names = np.intersect1d([str(p) for p in training.files], [str(p) for p in holdout.files])
    if len(both):
        share = np.isin(holdout.subjects, both).mean()
        outcome = Outcome(
            "fail",
            f"{len(both)} subjects are in the training and in the held-out set ({share:.0%} of the "
            "held-out volumes): whatever is measured on the held-out set is too good.",
        )
    elif len(names):
        outcome = Outcome("fail", f"{len(names)} files are in the training and the held-out set.")
    elif evidence.nameless:
        outcome = cannot_tell(evidence.nameless)
    else:
        outcome = Outcome(
            "pass",
            f"No evidence of a subject on both sides: {training.n_subjects} training and "
            f"{holdout.n_subjects} held-out subjects, no name in common. A subject under two names "
            "would not be seen here.",
        )
    return Finding(
        *SUBJECTS,
        outcome,
        value=float(len(both)),
        value_name="subjects on both sides",
        n_volumes=len(training) + len(holdout),
        n_subjects=len(np.union1d(training.subjects, holdout.subjects)),
        by_construction="every name is compared with every other",
        methods="Names of subjects and paths of files are compared as they stand.",
        limits="Names are believed: one person under two names is found only by equal volumes.",
    )


def digests(cohort: Cohort) -> Texts:
    """[N] digest of each volume's voxels; "" where all voxels are equal."""
    out = []
    for volume in cohort.values:
        flat = np.ascontiguousarray(volume, dtype=np.float32)
        constant = flat.min() == flat.max()
        out.append("" if constant else hashlib.blake2b(flat.tobytes(), digest_size=16).hexdigest())
    return np.array(out)


def _repeated(digest: Texts, subjects: Texts, side: Bools) -> tuple[int, int]:
    """Volumes that occur on both sides, and under two subjects."""
    seen: dict[str, list[int]] = defaultdict(list)
    for i, value in enumerate(digest):
        if value:
            seen[str(value)].append(i)
    sides = sum(len(set(side[at].tolist())) > 1 for at in seen.values())
    people = sum(len(set(subjects[at].tolist())) > 1 for at in seen.values())
    return sides, people


def repeated_volumes(evidence: Evidence, options: Options) -> Finding:
    """Volumes that occur again, voxel by voxel, on the other side or under another subject."""
    cohorts = (evidence.training, evidence.holdout)
    digest = np.concatenate([digests(c) for c in cohorts])
    subjects = np.concatenate([c.subjects for c in cohorts])
    side = np.repeat([False, True], [len(c) for c in cohorts])
    sides, people = _repeated(digest, subjects, side)
    if sides or people:
        outcome = Outcome(
            "fail",
            f"{sides} volumes are, voxel by voxel, in both the training and the held-out set, and "
            f"{people} belong to two subjects.",
        )
    else:
        outcome = Outcome(
            "pass",
            f"No evidence of duplicates: {len(digest)} volumes, no two of different subjects or "
            "sets are equal voxel by voxel. A resampled or rescaled copy would not be seen here.",
        )
    planted = [] if options.quick else [_copied(digest, subjects, side, options)]
    return Finding(
        *DUPLICATES,
        outcome,
        value=float(max(sides, people)),
        value_name="volumes that occur again",
        n_volumes=len(digest),
        n_subjects=len(np.unique(subjects)),
        power="; ".join(f"{c.name}: {c.rate:.0%}" for c in planted),
        by_construction="every volume is compared with every other",
        controls=tuple(planted),
        methods="A hash of the voxels as the networks see them; volumes of one value are left out.",
        limits="Near-copies are the question of the memorization judgement.",
    )


def _copied(digest: Texts, subjects: Texts, side: Bools, options: Options) -> Control:
    rng = options.rng("leakage/duplicates")
    usable = np.flatnonzero((digest != "") & ~side)
    found = 0
    for source in rng.choice(usable, COPIES) if len(usable) else ():
        with_copy = (
            np.append(digest, digest[source]),
            np.append(subjects, "planted"),
            np.append(side, True),
        )
        found += _repeated(*with_copy)[0] > 0
    name = "a training volume copied into the held-out set under another name"
    return controls.found(name, found, COPIES, at_least=limit("leakage.duplicates.found"))
