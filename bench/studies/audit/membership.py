"""How often attacks on memberships raise an alarm where nobody is known, and what they would find.

    python bench/studies/audit/membership.py size     # 1,000 null sets a row
    python bench/studies/audit/membership.py power    # 400 planted leaks a cell
    python bench/studies/audit/membership.py demo --report audit/report.json    # of an audit

Writes bench/results/audit/membership-<study>.json. Size: synthetic features as small volumes, three
kinds of data, 1, 2 and 4 volumes a patient; an outsider's distances and scores as the audit
computes them, and a critic that scores by the content of volumes alone. Power: leaks planted in
scores, and generated volumes pulled towards members, at the level of a whole audit. About four
minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from distributions import KINDS, Population
from size import NOMINAL, Row, at_least

from fastgan.arrays import Floats
from fastgan.audit.controls import power_level
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.membership.contest import Contest, deal
from fastgan.audit.membership.distances import Reals
from fastgan.audit.membership.epsilon import epsilon_bound
from fastgan.audit.membership.outsider import Outsider
from fastgan.audit.membership.patients import patients_of
from fastgan.audit.report.record import Record
from fastgan.audit.statistics import clopper_pearson

SEED = 20261130
NULLS = 1000
PLANTED = 400
SIDES = ((20, 10), (40, 20), (100, 50), (200, 100), (436, 178), (1000, 500))
"""Patients trained on, held out."""
AREAS = (0.55, 0.6, 0.65, 0.7, 0.75)
PULLS = (0.1, 0.2, 0.3, 0.5)
RESULTS = Path(__file__).parents[2] / "results" / "audit"


def evidence_of(
    kind: str, sides: tuple[int, int], volumes: int, generated: int, rng: np.random.Generator
) -> Evidence:
    """Features of one population as volumes of 4 x 4 x 2 voxels."""
    people = Population(kind, rng)

    def cohort(name: str, count: int, each: int) -> Cohort:
        features, owner = people.draw(count, each, rng)
        names = np.array([f"{name}-{i}" for i in owner])
        return Cohort(name, features.reshape(-1, 4, 4, 2), names)

    return Evidence(
        cohort("training", sides[0], volumes),
        cohort("held-out", sides[1], volumes),
        cohort("generated", generated, 1),
        (1.0, 1.0, 1.0),
    )


def sizes() -> Iterator[Row]:
    """Null sets: 60 patients trained on, 40 held out, 80 generated volumes."""
    for kind in KINDS:
        for volumes in (1, 2, 4):
            p = np.empty((2, NULLS))
            bounds = np.zeros(NULLS, bool)
            for run in range(NULLS):
                rng = np.random.default_rng([SEED, KINDS.index(kind), volumes, run])
                evidence = evidence_of(kind, (60, 40), volumes, 80, rng)
                patients = patients_of(evidence, rng)
                reals = Reals(patients, mirrored=False)
                contest = Contest.draw(60, 100, rng, 199)
                scores = Outsider(reals, evidence.require_generated()).scores()
                p[0, run] = contest.p(scores, patients.member)
                # Linear in the voxels, as a critic that knows the kind of volume and nobody.
                weights = rng.standard_normal(32)
                critic = patients.mean(patients.values.reshape(-1, 32) @ weights)
                p[1, run] = contest.p(critic[None], patients.member)
                bounds[run] = epsilon_bound(critic, patients.member, rng) > 0
            yield from size_rows("volumes alone, three attacks", kind, volumes, p[0])
            yield from size_rows("critic's score", kind, volumes, p[1])
            held = np.where(bounds, 0.05, 1.0)
            yield from size_rows("epsilon above 0", kind, volumes, held)


def size_rows(test: str, kind: str, volumes: int, p: Floats) -> Iterator[Row]:
    """A row a nominal size; a bound has the one of its confidence."""
    for nominal in NOMINAL if test != "epsilon above 0" else (0.05,):
        rejected = int(np.count_nonzero(p <= nominal))
        yield {
            "test": test,
            "data": kind,
            "volumes_per_subject": volumes,
            "nominal": nominal,
            "nulls": len(p),
            "rejected": rejected,
            "rate": rejected / len(p),
            "upper_95": clopper_pearson(rejected, len(p), side="upper")[1],
            "p_above": at_least(rejected, len(p), nominal),
        }


def powers() -> Iterator[Row]:
    """Leaks of known strength by the number of patients."""
    level = power_level(Options().alpha)
    for sides in SIDES:
        n = sum(sides)
        rng = np.random.default_rng([SEED, 9, n])
        contest = Contest.draw(sides[0], n, rng, 999)
        for area in AREAS:
            shift = np.sqrt(2) * NormalDist().inv_cdf(area)
            members = deal(sides[0], n, rng, PLANTED)
            p = [contest.p(rng.standard_normal((1, n)) + shift * m, m) for m in members]
            yield power_row("scores", f"AUC {area:g}", sides, np.array(p) <= level)
        if n > 700:
            continue
        evidence = evidence_of("mixture", sides, 1, 500, rng)
        patients = patients_of(evidence, rng)
        outsider = Outsider(Reals(patients, mirrored=False), evidence.require_generated())
        for pull in PULLS:
            members = deal(sides[0], n, rng, PLANTED)
            p = []
            for member in members:
                targets = np.flatnonzero(member[patients.owner])
                p.append(contest.p(outsider.pulled(pull, targets, rng), member))
            yield power_row("volumes", f"pulled {pull:.0%}", sides, np.array(p) <= level)


def power_row(attack: str, leak: str, sides: tuple[int, int], found: Floats) -> Row:
    return {
        "attack": attack,
        "leak": leak,
        "trained": sides[0],
        "held": sides[1],
        "found": int(found.sum()),
        "runs": len(found),
    }


def attacks_of(report: Path) -> Iterator[Row]:
    """What an audit's attacks found, as its report.json has it."""
    for finding in Record.read(report).findings:
        if finding.judgement != "membership" or not finding.tables:
            continue
        attacks, named = finding.tables
        rates = {row[0]: row[2] for row in named.rows if row[1] == "1.0%"}
        for name, area, interval, p in attacks.rows:
            yield {
                "finding": finding.key,
                "attack": name,
                "auc": area,
                "interval": interval,
                "p": p,
                "named": rates[name],
                "p_together": finding.p,
                "patients": finding.n_subjects,
                "planted": {c.name: c.rate for c in finding.controls},
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("size", "power", "demo"))
    parser.add_argument("--report", type=Path, default=Path("audit/report.json"))
    given = parser.parse_args()
    study = given.study
    torch.set_num_threads(1)
    about = {"seed": SEED, "torch": torch.__version__, "machine": platform.machine()}
    rows = []
    studies = {"size": sizes, "power": powers, "demo": lambda: attacks_of(given.report)}
    for row in studies[study]():
        rows.append(row)
        print(row, flush=True)
    text = json.dumps({"about": about, "rows": rows}, indent=1)
    (RESULTS / f"membership-{study}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
