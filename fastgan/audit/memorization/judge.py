"""Are training volumes copied: is any, and how much of the generated set is?

Two questions, since neither answers the other. A test of single volumes finds one copy in a
thousand, but only a near one. Whose patients lie nearest to the generated set tells how much is
copied, also loosely, but not a share of a few percent.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from fastgan.audit.controls import power_level
from fastgan.audit.evidence import LEAST_TO_FIT, Evidence, Options
from fastgan.audit.judgement import Finding, Outcome, Question, Verdict, answer, cannot_tell
from fastgan.audit.memorization.figures import flagged_pairs, ratios_and_power
from fastgan.audit.memorization.outliers import CopyTest
from fastgan.audit.memorization.power import (
    copy_power,
    prevalence_controls,
    quiet_copies,
)
from fastgan.audit.memorization.prevalence import Sides, nearest_subject
from fastgan.audit.memorization.search import Searched, isolations, searched
from fastgan.audit.memorization.tables import (
    context,
    flag_table,
    power_by_noise,
    power_tables,
)
from fastgan.audit.rules import limit
from fastgan.errors import AuditError

__all__ = ["LARGEST_SHARE", "SMALL_SHARE", "judge"]

LARGEST_SHARE = limit("memorization.prevalence.largest_share")
"""Upper end of the share nearest to training that still passes: less than half is copied."""

SMALL_SHARE = limit("memorization.prevalence.small_share")
"""Upper end up to which copying that was found is a warning: less than 1 in 5 is copied."""

COPIES = Question(
    "memorization",
    "memorization.copies",
    "Is any generated volume a copy of a training volume?",
)
PREVALENCE = Question(
    "memorization", "memorization.prevalence", "How much of the generated set is copied?"
)


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
    parts = ((COPIES, partial(_copies, data)), (PREVALENCE, partial(_prevalence, data)))
    findings = answer(parts, evidence, options)
    return [_unless_nameless(finding, evidence.nameless) for finding in findings]


def _unless_nameless(finding: Finding, reason: str) -> Finding:
    if not reason or finding.accepted.verdict != "pass":
        return finding
    return replace(finding, accepted=cannot_tell(reason))


_NAMES = (
    "Names of subjects are believed: one patient under two names may lie on both sides of the "
    "split and hide copies."
)


def _copies(data: Searched, evidence: Evidence, options: Options) -> Finding:
    null = data.null()
    test = CopyTest.fit(null)
    made = isolations(data.of_generated)
    single, p = test.p(made), test.p_any(made)
    count = len(single)
    flagged = np.flatnonzero(count * single <= options.alpha)
    flagged = flagged[np.argsort(single[flagged], kind="stable")]
    r, r_null = np.exp(-made[1]), np.exp(-null[1])
    power = None
    if not options.quick:
        rng = options.rng("memorization/planted")
        limit = power_level(options.alpha) / count
        power = copy_power(data, test, limit, options.planted, rng)
    compared = (
        f"the smallest ratio is {r.min():.2f}, that of {len(r_null)} volumes that are no copies "
        f"{r_null.min():.2f}"
    )
    least = {} if power is None else power_by_noise(power)
    found = "; ".join(f"one copy with noise {level:g}: {p:.2f}" for level, p in least.items())
    finding = Finding(
        *COPIES,
        accepted=Outcome(
            "pass",
            f"No evidence of a copied training volume found among {count} generated volumes: "
            f"{compared}."
            + "".join(
                f" One with noise of {level:g} of the distance between neighbours would have been "
                f"found with a power of at least {p:.2f}."
                for level, p in list(least.items())[:1]
            ),
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
        tables=(*flag_table(data, single, r, flagged), *power_tables(power, evidence)),
        methods=(
            "r = d1 / mean(d2, ..., d10), Euclidean distances to the training volumes, each volume "
            "moved so that its body is centred, once as it lies and once in its best of eight "
            f"mirror images. Null: {len(data.holdout_subject)} held-out volumes, and "
            f"{len(data.left_out)} training volumes against all other subjects, by the same "
            "searches. p: generalised Pareto tail of -log r above the 95 % quantile of the null, "
            "of fewer than 2,000 values down to the 90 % one, shape at least 0.1; Bonferroni over "
            "two searches and all generated volumes. Planted "
            f"copies count as found at p <= {power_level(options.alpha):g}, which Holm's "
            "correction over 20 tests never undercuts."
        ),
        limits=_NAMES
        + " Copies that are rotated, scaled, bent or of a part of a volume are found only as far "
        "as the table of planted copies says. A volume that ten training volumes resemble "
        "equally is no outlier.",
    )
    if power is not None:
        quiet = quiet_copies(data, options)
        finding = replace(finding, controls=(*power.points(), quiet))
    figures = ratios_and_power(r, r_null, power)
    if options.patient_images and len(flagged):
        figures += flagged_pairs(data, evidence, flagged, r)
    return replace(finding, figures=figures)


def _prevalence(data: Searched, evidence: Evidence, options: Options) -> Finding:
    if min(data.n_training, data.n_holdout) < LEAST_TO_FIT:
        raise AuditError(
            f"needs at least {LEAST_TO_FIT} subjects on both sides of the split, got "
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
    planted = () if options.quick else prevalence_controls(data, sides, options)
    power = "; ".join(
        f"{control.name}: {control.rate:.2f} (at least {control.interval[0]:.2f})"
        for control in planted
        if control.expected == "found" and control.decisive
    )
    return Finding(
        *PREVALENCE,
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
        controls=planted,
        tables=(context(data),),
        methods=(
            f"Of each generated volume, the nearest patient among {data.n_training} in training "
            f"and {data.n_holdout} held out, centred and in its best of eight mirror images. q is "
            "the share nearest to training, e the share of training patients; the value is "
            "1/2 + (q - e) / (2 (1 - e)): above 1/2 is nearer to training, and a copied share c "
            f"gives 1/2 + c/2. p: {options.permutations} exchanges of training and held-out "
            "patients. Interval: bootstrap over the nearest patients."
        ),
        limits=_NAMES
        + " The held-out patients must have been drawn at random from the same population; a "
        "split by site or time makes training patients the nearest without any copy. Few copies "
        "in a large set do not move this share.",
    )
