"""Who is on both sides of the split, by name and by voxels?"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from fastgan.arrays import Bools, Texts
from fastgan.audit import controls
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, cannot_tell
from fastgan.audit.likeness.copy_search import coarse
from fastgan.audit.likeness.twins import Twins
from fastgan.audit.rules import limit

__all__ = [
    "DUPLICATES",
    "NEAR",
    "SUBJECTS",
    "digests",
    "near_duplicates",
    "repeated_volumes",
    "shared_subjects",
]

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
NEAR = Question(
    "leakage",
    "leakage.near_duplicates",
    "Is any volume nearly the same as one of another subject?",
)
COPIES = 20
_LISTED = 20


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
        limits="Copies that are not equal voxel by voxel are the question of near-duplicates.",
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


def near_duplicates(evidence: Evidence, options: Options) -> Finding:
    """Volumes that another subject has nearly the same: scanned again, rescaled or renamed."""
    cohorts = (evidence.training, evidence.holdout)
    values = coarse(np.concatenate([c.values for c in cohorts]))
    varies = np.ptp(values.reshape(len(values), -1), axis=1) > 0
    subjects = np.concatenate([c.subjects for c in cohorts])[varies]
    side = np.repeat([False, True], [len(c) for c in cohorts])[varies]
    twins = Twins.among(values[varies], subjects)
    pairs = np.flatnonzero(twins.found)
    across = int(np.count_nonzero(side[pairs] & ~side[twins.partner[pairs]]))
    if across:
        outcome = Outcome(
            "fail",
            f"{across} of {int(side.sum())} held-out volumes are nearly the same as a training "
            "volume of another name: whatever is measured on the held-out set is too good. Find "
            "out whose they are and split by patient.",
        )
    elif len(pairs):
        outcome = Outcome(
            "warn",
            f"{len(pairs)} of {len(side)} volumes are nearly the same as one of another name on "
            "the same side: the same patient may be listed twice. List each once.",
        )
    else:
        outcome = Outcome(
            "pass",
            f"No evidence of near-duplicates: of {len(side)} volumes none is much nearer to one of "
            "another subject than to the next ones.",
        )
    found = [] if options.quick else [_planted_twins(twins, options)]
    numbers = np.flatnonzero(varies)
    rows = tuple(
        (int(numbers[i]), str(subjects[i]), int(numbers[j]), str(subjects[j]))
        for i, j in zip(pairs, twins.partner[pairs], strict=True)
    )
    table = Table(
        "Volumes that are nearly the same",
        ("volume", "subject", "nearly the same volume", "its subject"),
        rows[:_LISTED],
        f"{len(rows)} in all; training volumes are numbered first, then held-out ones.",
        patient=True,
    )
    return Finding(
        *NEAR,
        outcome,
        value=float(len(pairs)),
        value_name="volumes with a near-duplicate",
        n_volumes=len(side),
        n_subjects=len(np.unique(subjects)),
        power="; ".join(f"{c.name}: {c.rate:.0%}" for c in found),
        controls=tuple(found),
        tables=(table,) if rows else (),
        methods=(
            "By voxels, centred and mirrored, and by local contrast, mirrored and of either sign: "
            "the nearest volume of another subject lies at less than half the distance of the next "
            "nine, and nearer than chance does in 1 of 100 data sets, extrapolated from the middle "
            "of all volumes."
        ),
        limits="Two scans of one patient under two names are found only where they are as alike.",
    )


def _planted_twins(twins: Twins, options: Options) -> Control:
    """Volumes again, with noise of a tenth of the distance between neighbours."""
    rng = options.rng("leakage/near-duplicates")
    chosen = twins.values[rng.integers(len(twins.values), size=options.planted)]
    deviation = 0.1 * twins.typical / np.sqrt(chosen[0].size)
    noise = deviation * rng.standard_normal(chosen.shape)
    # The volume itself is a target: where it is found again, so is a twin.
    hits = int(np.count_nonzero(twins.recognised((chosen + noise).astype(np.float32))))
    name = "a volume under another name, noise 0.1 of the distance between neighbours"
    return controls.found(name, hits, options.planted)
