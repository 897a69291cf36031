"""Are training volumes copied? Whether any is, and how much of the generated set.

Two questions, since neither answers the other. A test of single volumes finds one copy in a
thousand, but only a near one. Whose patients lie nearest to the generated set tells how much is
copied, also loosely, but not a share of a few percent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastgan.audit.copy_search import MIRRORS
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Finding, Outcome, Table, Verdict
from fastgan.audit.memorization_figures import flagged_pairs, ratios_and_power
from fastgan.audit.memorization_power import (
    LEVELS,
    THIRDS,
    CopyPower,
    copy_power,
    prevalence_controls,
    quiet_copies,
    strict,
)
from fastgan.audit.memorization_search import Searched, isolations, searched
from fastgan.audit.outliers import CopyTest, ratio
from fastgan.audit.prevalence import Sides, nearest_subject
from fastgan.audit.statistics import area_under_curve, clopper_pearson
from fastgan.errors import AuditError

__all__ = ["LARGEST_SHARE", "SMALL_SHARE", "judge"]

LARGEST_SHARE = 0.75
"""Upper end of the share nearest to training that still passes: less than half is copied."""

SMALL_SHARE = 0.6
"""Upper end up to which copying that was found is a warning: less than 1 in 5 is copied."""

_LEAST_SUBJECTS = 20
_LISTED = 20


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Copies in the generated set: whether there is any, and how many of the volumes are.

    Raises:
        AuditError: no generated or held-out volumes, volumes that are constant, subjects on both
            sides of the split, a translator, or too few volumes to search in.

    Cost: 8 (G + H + min(M, 1000)) M F products of whole numbers for G generated, H held-out and M
        training volumes of F <= 32^3 voxels (larger ones are averaged); the controls plant 22 times
        `options.planted` volumes at 8 M F each.
    """
    data = searched(evidence, options)
    findings = []
    for question in (_copies, _prevalence):
        try:
            findings.append(question(data, evidence, options))
        except AuditError as error:
            key, text = _QUESTIONS[question.__name__]
            outcome = Outcome("cannot tell", f"Cannot tell: {error}.")
            findings.append(Finding("memorization", key, text, outcome))
    return findings


_QUESTIONS = {
    "_copies": ("memorization.copies", "Is any generated volume a copy of a training volume?"),
    "_prevalence": ("memorization.prevalence", "How much of the generated set is copied?"),
}


def _copies(data: Searched, evidence: Evidence, options: Options) -> Finding:
    null = data.null()
    test = CopyTest.fit(null)
    made = isolations(data.of_generated)
    single, p = test.p(made), test.p_any(made)
    count = len(single)
    flagged = np.flatnonzero(count * single <= options.alpha)
    flagged = flagged[np.argsort(single[flagged], kind="stable")]
    r, r_null = np.exp(-made[1]), np.exp(-null[1])
    power = None if options.quick else copy_power(data, test, options)
    compared = (
        f"the smallest ratio is {r.min():.2f}, that of {len(r_null)} volumes that are no copies "
        f"{r_null.min():.2f}"
    )
    found = "" if power is None else _power_sentence(power)
    finding = Finding(
        "memorization",
        *_QUESTIONS["_copies"],
        accepted=Outcome(
            "pass",
            f"No evidence of a copied training volume found among {count} generated volumes: "
            f"{compared}." + (f" {found}" if found else ""),
        ),
        rejected=Outcome(
            "fail",
            f"{len(flagged)} of {count} generated volumes lie nearer to one training volume than "
            f"volumes that are no copies do: {compared}.",
        ),
        p=p,
        value=float(r.min()),
        value_name="smallest ratio of nearest to next distances (0 for an exact copy)",
        floor=float(np.quantile(r_null, 1 / count)),
        floor_name=f"1 in {count} of held-out volumes and of training volumes against the others",
        n_volumes=count,
        n_subjects=data.n_training + data.n_holdout,
        power=found,
        tables=(*_flag_table(data, single, r, flagged), *_power_tables(power, evidence)),
        methods=(
            "r = d1 / mean(d2, ..., d10), Euclidean distances to the training volumes, each volume "
            "moved so that its body is centred, once as it lies and once in its best of eight "
            f"mirror images. Null: {len(data.holdout_subject)} held-out volumes, and "
            f"{len(data.left_out)} training volumes against all other subjects, by the same "
            "searches. p: generalised Pareto tail of -log r above the 95 % quantile of the null, "
            "shape at least 0.1; Bonferroni over two searches and all generated volumes. Planted "
            f"copies count as found at p <= {strict(options.alpha):g}, which Holm's correction "
            "over 20 tests never undercuts."
        ),
        limits=_limits(data, evidence)
        + " Copies that are rotated, scaled, bent or of a part of a volume are found only as far "
        "as the table of planted copies says. A volume that ten training volumes resemble "
        "equally is no outlier.",
    )
    if power is not None:
        quiet = quiet_copies(data, options)
        finding = replace(finding, controls=(*power.controls(options.alpha), quiet))
    figures = ratios_and_power(r, r_null, power)
    if options.patient_images and len(flagged):
        figures += flagged_pairs(data, evidence, flagged, r)
    return replace(finding, figures=figures)


def _prevalence(data: Searched, evidence: Evidence, options: Options) -> Finding:
    if min(data.n_training, data.n_holdout) < _LEAST_SUBJECTS:
        raise AuditError(
            f"needs at least {_LEAST_SUBJECTS} subjects on both sides of the split, got "
            f"{data.n_training} and {data.n_holdout}"
        )
    rng = options.rng("memorization/exchange")
    sides = Sides.draw(data.n_training, data.n_holdout, rng, options.permutations)
    near, held = data.of_generated[1], data.of_generated_held
    subject, trained = nearest_subject(
        near.distance[:, 0],
        data.training_subject[near.index[:, 0]],
        held.distance[:, 0],
        data.holdout_subject[held.index[:, 0]],
    )
    share, p = sides.share(trained), sides.p(subject, trained)
    low, high = sides.interval(subject, trained, options.rng("memorization/interval"), 1000)
    copied = max(0.0, 2 * high - 1)
    measured = (
        f"{share:.0%} of {len(trained)} generated volumes [{low:.0%}, {high:.0%}] are nearest to a "
        f"training patient, where 50 % are without copying; at most {copied:.0%} are copied"
    )
    verdict: Verdict = "warn" if high <= SMALL_SHARE else "fail"
    rejected = Outcome(verdict, f"Generated volumes follow training patients: {measured}.")
    accepted = Outcome("pass", f"No evidence of copying on a large scale found: {measured}.")
    if high > LARGEST_SHARE:
        accepted = Outcome("cannot tell", f"Cannot tell, the interval is too wide: {measured}.")
    controls = () if options.quick else prevalence_controls(data, sides, options)
    power = "; ".join(
        f"{control.name}: found with power {control.rate:.2f} "
        f"(at least {clopper_pearson(round(control.rate * control.runs), control.runs)[0]:.2f})"
        for control in controls
        if control.expected == "found"
    )
    return Finding(
        "memorization",
        *_QUESTIONS["_prevalence"],
        accepted=accepted,
        rejected=rejected,
        p=p,
        value=share,
        value_name="share of generated volumes nearest to a training patient, at equal numbers of "
        "patients on both sides",
        interval=(low, high),
        floor=0.5,
        floor_name="expected without copying",
        n_volumes=len(trained),
        n_subjects=data.n_training + data.n_holdout,
        power=power,
        controls=controls,
        tables=(_context(data),),
        methods=(
            f"Of each generated volume, the nearest patient among {data.n_training} in training "
            f"and {data.n_holdout} held out, centred and in its best of eight mirror images. q is "
            "the share nearest to training, e the share of training patients; the value is "
            "1/2 + (q - e) / (2 (1 - e)): above 1/2 is nearer to training, and a copied share c "
            f"gives 1/2 + c/2. p: {options.permutations} exchanges of training and held-out "
            "patients. Interval: bootstrap over the nearest patients."
        ),
        limits=_limits(data, evidence)
        + " The held-out patients must have been drawn at random from the same population; a "
        "split by site or time makes training patients the nearest without any copy. Few copies "
        "in a large set do not move this share.",
    )


def _power_sentence(power: CopyPower) -> str:
    points = []
    for level in LEVELS[:3]:
        found = power.noise[level]
        hits = int(np.count_nonzero(found))
        points.append(f"{level:g}: {clopper_pearson(hits, found.size)[0]:.2f}")
    return (
        "One copy would have been found with at least this power, by noise in units of the "
        f"distance between neighbours: {', '.join(points)}."
    )


def _limits(data: Searched, evidence: Evidence) -> str:
    if data.n_training == len(data.training) and data.n_holdout == len(data.holdout_subject):
        return (
            "Every volume has a subject of its own; if subjects are unknown, volumes of one "
            "patient may lie on both sides and hide copies."
        )
    return "Subjects are as the manifest names them."


def _flag_table(
    data: Searched,
    single: NDArray[np.floating],
    r: NDArray[np.floating],
    flagged: NDArray[np.int64],
) -> tuple[Table, ...]:
    if not len(flagged):
        return ()
    near = data.of_generated[1]
    rows = []
    for i in flagged[:_LISTED]:
        mirror = MIRRORS[int(near.mirror[i, 0])]
        axes = " ".join(axis for axis, on in zip("DHW", mirror, strict=True) if on)
        p = min(1.0, len(single) * float(single[i]))
        number = int(data.generated[i])
        rows.append((number, int(near.index[i, 0]), round(float(r[i]), 3), f"{p:.1e}", axes))
    return (
        Table(
            "Generated volumes that look copied",
            ("generated volume", "training volume", "ratio", "p, corrected", "mirrored along"),
            tuple(rows),
            f"{len(flagged)} in all; numbers count from 0 in the order of the audit.",
        ),
    )


def _power_tables(power: CopyPower | None, evidence: Evidence) -> tuple[Table, ...]:
    if power is None:
        return ()

    def cell(found: NDArray[np.bool_]) -> str:
        hits = int(np.count_nonzero(found))
        low, high = clopper_pearson(hits, found.size)
        return f"{hits / found.size:.2f} [{low:.2f}, {high:.2f}]"

    runs = next(iter(power.transforms.values())).size
    noise = tuple(
        (f"{level:g}", *(cell(row) for row in found), cell(found))
        for level, found in power.noise.items()
    )
    changes = tuple(
        (kind, "yes" if kind in evidence.augmentations else "no", cell(found))
        for kind, found in power.transforms.items()
    )
    note = f"Share found [95 % interval] of {runs} planted runs a cell, one copy in each."
    return (
        Table("Planted copies by noise and size", ("noise", *THIRDS, "all"), noise, note),
        Table(
            f"Planted copies that were changed, with noise {LEVELS[0]:g}",
            ("change", "used in training", "found"),
            changes,
            note,
        ),
    )


def _context(data: Searched) -> Table:
    made, held = data.of_generated[0].distance, data.of_holdout[0].distance
    a, b = made[:, 0], held[:, 0]
    z = (area_under_curve(a, b) - 0.5) / np.sqrt((len(a) + len(b) + 1) / (12 * len(a) * len(b)))
    return Table(
        "Common measures, for context",
        ("measure", "value", "what it misses"),
        (
            (
                "C_T, one cell",
                round(-float(z), 2),
                "below -2 reads as copying; it does not move for one copy in a hundred, and falls "
                "for a generator of too little variety",
            ),
            (
                "distance to closest record, median over that of held-out volumes",
                round(float(np.median(a) / np.median(b)), 3),
                "below 1 reads as copying; does not move for few copies",
            ),
            (
                "the same, 5 % quantile",
                round(float(np.quantile(a, 0.05) / np.quantile(b, 0.05)), 3),
                "does not move for one copy in a thousand",
            ),
            (
                "ratio of nearest to next distances, median",
                round(float(np.median(ratio(made))), 3),
                f"{np.median(ratio(held)):.3f} for held-out volumes; says nothing of single copies",
            ),
        ),
        "C_T: Meehan, Chaudhuri and Dasgupta 2020, with the whole space as one cell; volumes count "
        "as independent. None of these decides a verdict.",
    )
