"""Does a translation keep lesions: one put in appears, one taken out is gone, none is invented."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.audit import controls
from fastgan.audit.evidence import Cohort, Evidence, Options, Translate
from fastgan.audit.judgement import Control, Finding, Question, Table, cannot_tell
from fastgan.audit.rules import limit
from fastgan.audit.statistics import clopper_pearson
from fastgan.audit.translation.planted_lesions import (
    Place,
    conspicuity,
    conspicuity_map,
    conspicuous_places,
    erased,
    pasted,
    planted,
    random_places,
)
from fastgan.audit.translation.tolerance import TOLERATED, power_of, rate_outcome

__all__ = ["judge_lesions"]

PLANTED = Question(
    "translation",
    "translation.planted",
    "Does a lesion that is put into a volume appear in its translation?",
)
ERASED = Question(
    "translation",
    "translation.erased",
    "Is a structure that is taken out of a volume gone from its translation?",
)
INVENTED = Question(
    "translation",
    "translation.invented",
    "Does a translation show structures of which the source has nothing?",
)
MOST_SUBJECTS = 100
RADIUS = 1 / 12  # of the shortest axis, at least 2 voxels
CONTRAST = limit("translation.lesions.contrast")
VISIBLE = limit("translation.lesions.visible")
KEPT = limit("translation.lesions.kept")
UNSEEN = limit("translation.lesions.unseen")
TAKEN = limit("translation.lesions.taken")
LEAST = limit("translation.lesions.least")


class _Count(NamedTuple):
    """How many of so many subjects."""

    found: int
    of: int


def judge_lesions(
    evidence: Evidence, options: Options, translate: Translate, found: Floats
) -> list[Finding]:
    """Findings translation.planted, translation.erased and translation.invented.

    Args:
        evidence: domain A held out.
        options: of the audit.
        translate: A to B.
        found: [N, D, H, W] translations of the held-out volumes, in their order.
    """
    rng = options.rng("translation/lesions")
    order = rng.permutation(len(evidence.holdout))
    first = np.unique(evidence.holdout.subjects[order], return_index=True)[1]
    chosen = np.sort(order[first][:MOST_SUBJECTS])
    cohort, made = evidence.holdout.subset(chosen), found[chosen]
    radius = max(2.0, RADIUS * min(cohort.values.shape[1:]))
    return [
        _planted(cohort, made, translate, radius, options),
        _erased(cohort, made, translate, radius, options),
        _invented(cohort, made, radius, options),
    ]


def _planted(
    cohort: Cohort, made: Floats, translate: Translate, radius: float, options: Options
) -> Finding:
    rng = options.rng("translation/planted")
    places = [random_places(v, radius, 1, rng)[0] for v in cohort.values]
    altered = np.stack(
        [planted(v, p, radius, CONTRAST) for v, p in zip(cohort.values, places, strict=True)]
    )
    after = translate(altered)
    put_in = _changes(cohort.values, altered, places, radius)
    seen = np.abs(put_in) >= VISIBLE

    def kept_in(translated: Floats) -> Floats:
        return np.abs(_changes(made, translated, places, radius)[seen] / put_in[seen])

    kept = kept_in(after)
    lost = _count(kept < KEPT)
    proofs: tuple[Control, ...] = ()
    if not options.quick:
        over = np.stack([erased(t, p, radius, rng) for t, p in zip(after, places, strict=True)])
        proofs = (controls.found("planted lesions painted over", *_count(kept_in(over) < KEPT)),)
    return _finding(
        PLANTED,
        lost,
        "planted lesions lost in translation",
        "Lesions that are put into a volume do not appear in its translation",
        planted=proofs,
        table=_quantiles("Share of a planted lesion's conspicuity that is kept", kept),
        methods=(
            f"A ball of {radius:.1f} voxels radius and {CONTRAST:g} standard deviations of its "
            "surroundings at a calm place of tissue, one volume of each patient. Lost: the "
            f"translation changes there by less than {KEPT:.0%} of that, in standard deviations "
            "of its own surroundings."
        ),
    )


def _erased(
    cohort: Cohort, made: Floats, translate: Translate, radius: float, options: Options
) -> Finding:
    rng = options.rng("translation/erased")
    places = [conspicuous_places(v, radius, 1)[0] for v in cohort.values]
    altered = np.stack(
        [erased(v, p, radius, rng) for v, p in zip(cohort.values, places, strict=True)]
    )
    after = translate(altered)
    before, was = _at(made, places, radius), _at(cohort.values, places, radius)
    taken = 1.0 - _at(altered, places, radius) / was
    seen = (np.abs(before) >= LEAST) & (np.abs(was) >= LEAST) & (taken > TAKEN)

    def gone_in(translated: Floats) -> Floats:
        return (1.0 - _at(translated, places, radius)[seen] / before[seen]) / taken[seen]

    gone = gone_in(after)
    stayed = _count(gone < KEPT)
    proofs: tuple[Control, ...] = ()
    if not options.quick and len(gone):
        again = np.stack(
            [pasted(t, m, p, radius) for t, m, p in zip(after, made, places, strict=True)]
        )
        proofs = (controls.found("erased structures drawn again", *_count(gone_in(again) < KEPT)),)
    return _finding(
        ERASED,
        stayed,
        "structures drawn although they were taken out",
        "What is taken out of a volume is drawn in its translation all the same",
        planted=proofs,
        table=_quantiles("Share lost in translation over share lost in the source", gone),
        methods=(
            "The most conspicuous place of each volume, filled with values of its surroundings. It "
            f"stays if the translation loses less than {KEPT:.0%} of the share of its conspicuity "
            f"that the source lost. Counted where the source loses more than {TAKEN:.0%}, and both "
            f"show the place with a conspicuity of at least {LEAST:g}."
        ),
    )


def _invented(cohort: Cohort, made: Floats, radius: float, options: Options) -> Finding:
    invented = _count_invented(cohort.values, made, radius)
    missing = _count_invented(made, cohort.values, radius)
    proofs: tuple[Control, ...] = ()
    if not options.quick:
        rng = options.rng("translation/invented")
        painted = np.stack(
            [
                planted(t, random_places(s, radius, 1, rng)[0], radius, CONTRAST)
                for s, t in zip(cohort.values, made, strict=True)
            ]
        )
        proofs = (
            controls.found(
                "a lesion painted into each translation",
                *_count_invented(cohort.values, painted, radius),
            ),
            controls.quiet(
                "the source with its contrast bent",
                *_count_invented(cohort.values, _bent(cohort.values), radius),
                at_most=TOLERATED,
                by="rate",
            ),
        )
    return _finding(
        INVENTED,
        invented,
        "invented structures",
        "Translations show structures of which the source has nothing",
        planted=proofs,
        table=Table(
            "Places that stand out on one side only",
            ("what", "patients"),
            (
                ("in the translation, not in the source", f"{invented.found} of {invented.of}"),
                ("in the source, not in the translation", f"{missing.found} of {missing.of}"),
            ),
            note=(
                "The second is context: two tissues may look alike in the other domain, and then "
                "what parts them is rightly gone."
            ),
        ),
        methods=(
            f"Every place of a translation; invented where its conspicuity is {VISIBLE:g} or more, "
            f"and that of the source below {UNSEEN:.0%} of it and below {LEAST:g}."
        ),
    )


def _count_invented(source: Floats, made: Floats, radius: float) -> _Count:
    faults = []
    for s, t in zip(source, made, strict=True):
        seen, other = (np.abs(conspicuity_map(v, radius)) for v in (t, s))
        only = (seen >= VISIBLE) & (other < np.minimum(UNSEEN * seen, LEAST))
        faults.append(bool(only.any()))
    return _count(np.array(faults))


def _at(values: Floats, places: list[Place], radius: float) -> Floats:
    """[N] conspicuity of one place of each volume."""
    return np.array([conspicuity(v, p, radius) for v, p in zip(values, places, strict=True)])


def _changes(before: Floats, after: Floats, places: list[Place], radius: float) -> Floats:
    """[N] how much more conspicuous the places became."""
    return _at(after, places, radius) - _at(before, places, radius)


def _count(faults: Bools) -> _Count:
    return _Count(int(np.count_nonzero(faults)), len(faults))


def _bent(values: Floats) -> Floats:
    """Another contrast of the same structures: dark and bright swapped, and not linear."""
    bent: Floats = 1.0 - 2.0 * ((values + 1.0) / 2.0) ** 0.7
    return bent


def _quantiles(title: str, shares: Floats) -> Table:
    if not len(shares):
        return Table(title, ("quantile", "share"), ())
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    rows = tuple((f"{q:.0%}", round(float(np.quantile(shares, q)), 2)) for q in levels)
    return Table(title, ("quantile", "share"), rows)


def _finding(
    question: Question,
    count: _Count,
    what: str,
    sentence: str,
    *,
    planted: tuple[Control, ...],
    table: Table,
    methods: str,
) -> Finding:
    if count.of:
        outcome = rate_outcome(count.found, count.of, what, sentence)
    else:
        outcome = cannot_tell("no volume shows anything to judge by")
    return Finding(
        *question,
        outcome,
        value=count.found / max(count.of, 1),
        value_name=f"share of patients with {what}",
        interval=clopper_pearson(count.found, max(count.of, 1)),
        n_volumes=count.of,
        n_subjects=count.of,
        power=power_of(planted),
        controls=planted,
        tables=(table,),
        methods=methods,
        limits=(
            "Balls are not lesions: texture, shape and place of real ones may be kept better or "
            "worse. A map of intensities may rightly forget a contrast."
        ),
    )
