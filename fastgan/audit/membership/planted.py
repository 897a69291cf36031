"""Leaks of known strength are planted here, and sets without one have to stay quiet.

Memberships of planted runs are dealt anew among all patients, so whatever the real set leaks is no
part of them.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.controls import hits, power_level
from fastgan.audit.evidence import Insider, Options, Score
from fastgan.audit.judgement import Control
from fastgan.audit.membership.contest import Contest, deal, midranks
from fastgan.audit.membership.distances import Reals
from fastgan.audit.membership.outsider import Outsider
from fastgan.audit.membership.patients import Patients
from fastgan.audit.rules import limit, whole
from fastgan.audit.statistics.roc import auc_rows

__all__ = [
    "AREAS",
    "PULLS",
    "critic_controls",
    "posing_control",
    "pulled_controls",
    "raised_controls",
    "resplit",
]

PULLS = (0.3, 0.5, 0.7, 0.9)
"""Shares of the way from each generated volume to a training volume."""
AREA = limit("membership.largest_auc")
AREAS = (0.55, 0.6, AREA, 0.75)
"""Areas under the curve of leaks that are planted in scores."""
FEW = (0.02, 0.05, 0.1)
"""Shares of the members that score above everybody else."""
SPLITS = whole("membership.splits")
SPLIT_RUNS = 10
"""Choices of who poses, after each random split and after the real one."""
UNTRAINED = limit("membership.untrained")
LONGEST = limit("membership.overtraining_seconds")
OVERTRAINED = 20
"""Patients whom a critic is trained on alone: few enough to be known within some hundred steps."""
MOST_ASKED = 200
"""Others whom it is asked about; more cost time."""


def pulled_controls(outsider: Outsider, contest: Contest, options: Options) -> list[Control]:
    """Generated volumes pulled towards volumes of members, by strength.

    The weakest pull that lets an attack reach an AUC of `AREA`, the largest that passes, decides;
    if none does, the strongest.
    """
    planted = []
    patients = outsider.reals.patients
    for strength in PULLS:
        rng = options.rng(f"membership/pulled/{strength:g}")
        members = deal(contest.n_members, contest.n, rng, options.planted)
        scores = np.stack(
            [
                outsider.pulled(strength, np.flatnonzero(member[patients.owner]), rng)
                for member in members
            ]
        )
        attacks = range(scores.shape[1])
        area = max(float(auc_rows(scores[:, i], members).mean()) for i in attacks)
        planted.append((strength, area, contest.p_of_sets(scores, members)))
    reached = [area >= AREA for _, area, _ in planted]
    decisive = reached.index(True) if any(reached) else len(PULLS) - 1
    return [
        _found(
            f"every generated volume pulled {strength:.0%} of the way to a training volume, which "
            f"gives an AUC of {area:.2f}",
            p,
            options,
            decisive=i == decisive,
        )
        for i, (strength, area, p) in enumerate(planted)
    ]


def raised_controls(scores: Floats, contest: Contest, options: Options) -> list[Control]:
    """Leaks planted in the scores of the first attack, by strength: all a little, and few wholly.

    Scores become normal ones of the same ranks, to which members' are added what makes the area
    under the curve as large as named; `AREA`, the largest that passes, decides.
    """
    found = []
    normal = _normal(scores)
    for area in AREAS:
        shift = np.sqrt(2) * NormalDist().inv_cdf(area)
        p = _moved(normal, np.full(contest.n_members, shift), contest, options, f"{area:g}")
        name = f"scores of members raised to an AUC of {area:g}"
        found.append(_found(name, p, options, decisive=area == AREA))
    for share in FEW:
        raised = np.zeros(contest.n_members)
        raised[: max(1, round(share * contest.n_members))] = 100.0
        p = _moved(normal, raised, contest, options, f"few/{share:g}")
        name = f"{share:.0%} of the members above everybody else"
        found.append(_found(name, p, options, decisive=False))
    return found


def resplit(scores: Floats, member: Bools, options: Options) -> Control:
    """Held-out patients dealt into two halves of which one poses as members must be quiet."""
    held = scores[:, ~member]
    n = held.shape[1]
    rng = options.rng("membership/resplit")
    contest = Contest.draw(n // 2, n, rng, options.permutations)
    p = contest.p_of_deals(held, deal(n // 2, n, rng, options.planted))
    name = "half of the held-out patients posing as members"
    return controls.quiet(name, *hits(p, options.alpha), at_most=options.alpha)


def posing_control(outsider: Outsider, options: Options) -> Control:
    """Training patients, left out, posing as generated: a perfect generator of other patients.

    Whoever was trained on is told from whoever was held out no better than after each of some
    random splits of the same patients. A split by site or by time shows here.
    """
    patients = outsider.reals.patients
    rng = options.rng("membership/posing")
    seen = _told(outsider, patients.member, rng)
    by_chance = max(_told(outsider, rng.permutation(patients.member), rng) for _ in range(SPLITS))
    name = (
        f"training patients, left out, posing as generated (largest statistic {seen:.1f}, after "
        f"{SPLITS} random splits up to {by_chance:.1f})"
    )
    return controls.quiet(name, int(seen > by_chance), 1, at_most=0.0, by="rate")


def _told(outsider: Outsider, member: Bools, rng: np.random.Generator) -> float:
    """Largest statistic of the attacks where a quarter of one side poses as generated, a mean."""
    inside = np.flatnonzero(member)
    count = max(1, len(inside) // 4)
    contest = Contest(len(inside) - count, len(member) - count, np.zeros((0, 0)))
    largest = []
    for _ in range(SPLIT_RUNS):
        posers = np.zeros(len(member), bool)
        posers[rng.choice(inside, count, replace=False)] = True
        scores = outsider.posing(posers)[:, ~posers]
        largest.append(contest.largest(scores, member[~posers]))
    return float(np.mean(largest))


def critic_controls(held: Insider, reals: Reals, options: Options) -> list[Control]:
    """A critic trained on few patients knows them, and one that was never trained knows nobody.

    The few are held-out patients, asked about beside other held-out ones: the run saw neither.

    Raises:
        AuditError: it would take too long.
    """
    patients = reals.patients
    rng = options.rng("membership/overtrained")
    drawn = rng.permutation(np.flatnonzero(~patients.member))
    count = min(OVERTRAINED, len(drawn) // 2)
    asked = np.sort(drawn[: count + MOST_ASKED])
    few = np.isin(np.arange(patients.n), drawn[:count])
    rows = np.flatnonzero(few[patients.owner])
    labels = None if patients.labels is None else patients.labels[rows]
    critic = held.overtrained(patients.values[rows], labels, LONGEST)
    scores = _asked(critic, patients, asked)
    known = Contest.draw(count, len(asked), rng, options.permutations)
    name = f"this critic trained on {count} held-out patients alone, asked about other ones"
    found = _found(name, np.array([known.p(scores[None], few[asked])]), options, decisive=True)
    everybody = np.arange(patients.n)
    blank = _asked(held.blank, patients, everybody)
    others = Contest.draw(patients.n_members, patients.n, rng, options.permutations)
    p = others.p(blank[None], patients.member)
    name = "a critic of this kind that was never trained"
    quiet = controls.quiet(name, *hits([p], UNTRAINED), at_most=0.0, by="rate")
    return [found, quiet]


def _asked(critic: Score, patients: Patients, who: Integers) -> Floats:
    """[k] scores of some patients [k], in order of their numbers."""
    rows = np.flatnonzero(np.isin(patients.owner, who))
    labels = None if patients.labels is None else patients.labels[rows]
    owner = np.searchsorted(who, patients.owner[rows])
    sums = np.bincount(owner, critic(patients.values[rows], labels), len(who))
    out: Floats = sums / np.bincount(owner, minlength=len(who))
    return out


def _found(name: str, p: Floats, options: Options, *, decisive: bool) -> Control:
    return controls.found(name, *hits(p, power_level(options.alpha)), decisive=decisive)


def _normal(scores: Floats) -> Floats:
    """Normal scores [A, n] of the same ranks."""
    n = scores.shape[1]
    quantile = np.vectorize(NormalDist().inv_cdf)
    out: Floats = quantile((midranks(scores) - 0.5) / n)
    return out


def _moved(
    normal: Floats, raised: Floats, contest: Contest, options: Options, purpose: str
) -> Floats:
    """p-values of runs in which scores of members of the first attack are raised by [m]."""
    rng = options.rng(f"membership/raised/{purpose}")
    members = deal(contest.n_members, contest.n, rng, options.planted)
    scores = np.repeat(normal[None], len(members), axis=0)
    for own, member in zip(scores, members, strict=True):
        own[0, rng.permutation(np.flatnonzero(member))] += raised
    return contest.p_of_sets(scores, members)
