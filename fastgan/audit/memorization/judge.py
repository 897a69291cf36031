"""Are training volumes copied: is any, and how much of the generated set is?

Two questions, since neither answers the other. A test of single volumes finds one copy in a
thousand, but only a near one. Whose patients lie nearest to the generated set tells how much is
copied, also loosely, but not a share of a few percent.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from fastgan.arrays import Floats
from fastgan.audit.controls import power_level
from fastgan.audit.evidence import LEAST_TO_FIT, Evidence, Options
from fastgan.audit.judgement import (
    Control,
    Finding,
    Outcome,
    Question,
    Verdict,
    answer,
    unless_nameless,
)
from fastgan.audit.likeness.outliers import CopyTest
from fastgan.audit.likeness.searches import Near
from fastgan.audit.memorization.figures import flagged_pairs, ratios_and_power
from fastgan.audit.memorization.planted_copies import BENT, TRANSFORMS
from fastgan.audit.memorization.power import (
    CopyPower,
    copy_power,
    deformed_power,
    nearest_by_search,
    prevalence_controls,
    quiet_copies,
)
from fastgan.audit.memorization.prevalence import Sides
from fastgan.audit.memorization.search import Searched, searched
from fastgan.audit.memorization.tables import context, flag_table, least_power, power_tables
from fastgan.audit.rules import limit
from fastgan.errors import AuditError

__all__ = ["LARGEST_SHARE", "SMALL_SHARE", "judge"]

LARGEST_SHARE = limit("memorization.prevalence.largest_share")
"""Upper end of the share nearest to training that still passes: less than half is copied."""

SMALL_SHARE = limit("memorization.prevalence.small_share")
"""Upper end up to which copying that was found is a warning: less than 1 in 5 is copied."""

SEEN = limit("memorization.prevalence.seen")
"""Share of planted copies nearest to a training patient from which a search bounds copying."""

DEFORMED = Question(
    "memorization",
    "memorization.copies_deformed",
    "Is any generated volume a training volume turned or zoomed, or one by half?",
)
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
    parts = (
        (COPIES, partial(_copies, data)),
        (DEFORMED, partial(_deformed, data)),
        (PREVALENCE, partial(_prevalence, data)),
    )
    findings = answer(parts, evidence, options)
    return [unless_nameless(finding, evidence.nameless) for finding in findings]


_METHODS = (
    "r = d1 / mean(d2, ..., d10) of distances to the training volumes. Three searches: by voxels, "
    "each volume moved so that its body is centred, once as it lies and once in its best of eight "
    "mirror images; by local contrast (deviation from the mean around each voxel, over the "
    "deviation there; what volumes of other patients have in common whitened), mirrored and of "
    "either sign."
)
_METHODS_POSED = (
    "r = d1 / mean(d2, ..., d10) of distances to the training volumes by local contrast (deviation "
    "from the mean around each voxel, over the deviation there; what volumes of other patients "
    "have in common whitened), in eight mirror images and of either sign. Two searches: by the "
    "half that is most alike; and in 21 poses (turned by 15 degrees either way about one axis or "
    "not, zoomed by 1.1 or its inverse or not)."
)
_NAMES = (
    "Names of subjects are believed: one patient under two names may lie on both sides of the "
    "split and hide copies."
)


def _copies(data: Searched, evidence: Evidence, options: Options) -> Finding:
    null = data.null(Near.isolations)
    test = CopyTest.fit(null)
    made = data.of_generated.isolations()
    found = _suspects(data, evidence, options, COPIES, test, null, made)
    if options.quick:
        return found
    level = power_level(options.alpha) / len(data.generated)
    used = tuple(kind for kind in evidence.augmentations or () if kind in TRANSFORMS)
    power = copy_power(data, test, level, options, used, mask=evidence.modality == "mask")
    quiet = quiet_copies(data, Near.isolations, options)
    return _measured(found, power, quiet, evidence)


def _deformed(data: Searched, evidence: Evidence, options: Options) -> Finding:
    null = data.null(Near.isolations_deformed)
    test = CopyTest.fit(null)
    made = data.of_generated.isolations_deformed()
    found = _suspects(data, evidence, options, DEFORMED, test, null, made)
    if options.quick:
        return found
    level = power_level(options.alpha) / len(data.generated)
    power = deformed_power(data, test, level, options)
    quiet = quiet_copies(data, Near.isolations_deformed, options)
    return _measured(found, power, quiet, evidence)


def _suspects(
    data: Searched,
    evidence: Evidence,
    options: Options,
    question: Question,
    test: CopyTest,
    null: tuple[Floats, ...],
    made: tuple[Floats, ...],
) -> Finding:
    """Generated volumes nearer to one training volume than chance, by some of the searches."""
    near = data.of_generated.same_pose if question is COPIES else data.of_generated.deformed
    single, p, which = test.p(made), test.p_any(made), test.search_of(made)
    count = len(single)
    flagged = np.flatnonzero(count * single <= options.alpha)
    flagged = flagged[np.argsort(single[flagged], kind="stable")]
    r = np.exp(-np.stack(made)[which, np.arange(count)])
    first = int(np.argmin(single))
    r_null = np.exp(-null[int(which[first])])
    compared = (
        f"the most suspicious has a ratio of {r[first]:.2f}, the smallest of {len(r_null)} volumes "
        f"that are no copies is {r_null.min():.2f}"
    )
    left = ""
    if data.twice:
        left = (
            f" {data.twice} volumes that another subject has nearly the same were left out, "
            f"{data.across} of them held-out ones that are in the training set: see the question "
            "of leakage about them."
        )
    deformed = question is DEFORMED
    finding = Finding(
        *question,
        accepted=Outcome(
            "pass",
            f"No evidence of a copied training volume found among {count} generated volumes"
            f"{', turned, zoomed or by half' if deformed else ''}: {compared}.{left}",
        ),
        rejected=Outcome(
            "fail",
            f"{len(flagged)} of {count} generated volumes lie nearer to one training volume than "
            f"volumes that are no copies do: {compared}.{left}",
        ),
        p=p,
        value=float(r[first]),
        value_name="ratio of nearest to next distances of the most suspicious (0: an exact copy)",
        floor=float(np.quantile(r_null, 1 / count)),
        floor_name=f"1 in {count} of held-out volumes and of training volumes against the others",
        n_volumes=count,
        n_subjects=data.n_training + data.n_holdout,
        tables=flag_table(data, near, which, single, r, flagged),
        methods=(_METHODS_POSED if deformed else _METHODS)
        + (
            f" Null: {len(data.holdout_subject)} held-out volumes, and {len(data.left_out)} "
            "training volumes against all other subjects, by the same searches. p: generalised "
            "Pareto tail of -log r above the 95 % quantile of the null, of fewer than 2,000 values "
            "down to the 90 % one, shape at least 0.1; Bonferroni over the searches and all "
            f"generated volumes. Planted copies count as found at p <= "
            f"{power_level(options.alpha):g}, which Holm's correction over 20 tests never "
            "undercuts."
        ),
        limits=_NAMES + " Copies of other kinds than those planted may not be found. A volume that "
        "ten training volumes resemble equally is no outlier.",
    )
    figures = ratios_and_power(r, r_null, None)
    if options.patient_images and len(flagged):
        figures += flagged_pairs(data, evidence, near, which, flagged, r)
    return replace(finding, figures=figures)


def _measured(finding: Finding, power: CopyPower, quiet: Control, evidence: Evidence) -> Finding:
    """A finding with its controls, whose sentence says for which copies power was measured."""
    least = least_power(power)
    decisive = [c for c in power.points() if c.decisive]
    kinds = ", ".join(c.name.removeprefix("one copy ").split(", noise")[0] for c in decisive)
    sure = min(c.interval[0] for c in decisive)
    said = (
        f" One copy would have been found with a power of at least {sure:.2f}: {kinds}; each with "
        "noise of 0.1 of the distance between neighbours. Of other changes this says nothing."
    )
    if BENT in power.changes:
        said += (
            f" A single copy {BENT} was found in {np.mean(power.changes[BENT]):.0%} of "
            f"{power.changes[BENT].size} runs; whether many are such copies is the question of how "
            "much is copied."
        )
    accepted = replace(finding.accepted, sentence=finding.accepted.sentence + said)
    return replace(
        finding,
        accepted=accepted,
        power="; ".join(f"one copy, {name}: at least {p:.2f}" for name, p in least.items()),
        controls=(*power.points(), quiet),
        tables=(*finding.tables, *power_tables(power, evidence)),
    )


def _prevalence(data: Searched, evidence: Evidence, options: Options) -> Finding:
    if min(data.n_training, data.n_holdout) < LEAST_TO_FIT:
        raise AuditError(
            f"needs at least {LEAST_TO_FIT} subjects on both sides of the split, got "
            f"{data.n_training} and {data.n_holdout}"
        )
    rng = options.rng("memorization/exchange")
    sides = Sides.draw(data.n_training, data.n_holdout, rng, options.permutations)
    sides_of = nearest_by_search(data, data.of_generated, data.of_generated_held)
    each = [sides.p(*one) for one in sides_of]
    p = min(1.0, len(sides_of) * min(each))
    planted, seen = ((), ()) if options.quick else prevalence_controls(data, sides, options)
    shares = [sides.share(trained) for _, trained in sides_of]
    # Of the searches that see copies, the one that spreads the nearest over the most patients
    # bounds best how much there may be; which it is says nothing of the sides. If none does, the
    # one that shows the most copying.
    able = [i for i, share in enumerate(seen) if share >= SEEN]
    by = int(np.argmax(shares))
    if p <= options.alpha:
        by = int(np.argmin(each))
    elif able:
        by = max(able, key=lambda i: sides.patients(*sides_of[i]))
    subject, trained = sides_of[by]
    share = sides.share(trained)
    low, high = sides.interval(subject, trained, options.rng("memorization/interval"), 1000)
    copied = min(1.0, max(0.0, 2 * high - 1))
    measured = (
        f"{max(share, 0):.0%} of {len(trained)} generated volumes [{max(low, 0):.0%}, "
        f"{min(high, 1):.0%}] are nearest to a training patient, at equal numbers of patients on "
        f"both sides, where 50 % are without copying; at most {copied:.0%} are copies of the kinds "
        "that these searches find"
    )
    verdict: Verdict = "warn" if high <= SMALL_SHARE else "fail"
    rejected = Outcome(verdict, f"Generated volumes follow training patients: {measured}.")
    accepted = Outcome("pass", f"No evidence of copying on a large scale found: {measured}.")
    if high > LARGEST_SHARE:
        accepted = Outcome("cannot tell", f"Cannot tell, the interval is too wide: {measured}.")
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
            f"and {data.n_holdout} held out: by voxels, centred, and by local contrast, turned and "
            "zoomed as well, both in the best of eight mirror images; p is twice the smaller one, "
            "the share that of the search that spreads the nearest over more patients, or of the "
            "one that found copying. q is "
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
