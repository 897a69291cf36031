"""How surely one planted copy among 1,000 generated volumes is found, at a size of 1 %.

    python bench/audit/power_memorization.py [synthetic|lidc ...]

Writes bench/results/audit/power-memorization-<data>.json. Synthetic: 1,000 training and 1,000
held-out feature vectors, 10 data sets of each kind, 40 copies a point in each. LIDC: the bundled
nodules of at least 6 mm at 32^3, 70 % of the patients in training, 5 splits, 100 copies a point in
each, by size and after every augmentation. Splits of one collection are not independent: the
intervals are of these splits. About 7 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch
from distributions import KINDS, Population
from numpy.typing import NDArray
from size import neighbours

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.memorization_power import LEVELS, THIRDS, CopyPower, copy_power
from fastgan.audit.memorization_search import searched
from fastgan.audit.outliers import CopyTest, isolation
from fastgan.audit.statistics import clopper_pearson
from fastgan.data.bundled import read_lidc

SEED = 20261126
LIMIT = 0.01 / 1000
SETS, COPIES = 10, 40
SPLITS, PLANTED = 5, 100
RESULTS = Path(__file__).parents[1] / "results" / "audit"

Row = dict[str, object]


def point(data: str, what: str, size: str, found: NDArray[np.bool_]) -> Row:
    hits, runs = int(np.count_nonzero(found)), int(found.size)
    low, high = clopper_pearson(hits, runs)
    row = {"data": data, "copy": what, "size": size, "found": hits, "runs": runs}
    return row | {"power": hits / runs, "low": low, "high": high}


def synthetic() -> list[Row]:
    rows = []
    for kind in KINDS:
        found: dict[float, list[NDArray[np.bool_]]] = {level: [] for level in LEVELS}
        for number in range(SETS):
            rng = np.random.default_rng([SEED, KINDS.index(kind), number])
            people = Population(kind, rng)
            training, owner = people.draw(1000, 1, rng)
            holdout, _ = people.draw(1000, 1, rng)
            held = neighbours(holdout, training, 10)[0]
            own = neighbours(training, training, 10, owner)[0]
            test = CopyTest.fit([np.concatenate([isolation(held), isolation(own)])])
            typical = float(np.median(held[:, 0]))
            for level in LEVELS:
                copies = training[rng.integers(1000, size=COPIES)]
                noise = rng.standard_normal(copies.shape) / np.sqrt(copies.shape[1])
                copies = (copies + level * typical * noise).astype(np.float32)
                u = isolation(neighbours(copies, training, 10)[0])
                found[level].append(test.p([u]) <= LIMIT)
        rows += [
            point(kind, f"noise {level:g}", "all", np.array(flags))
            for level, flags in found.items()
        ]
    return rows


def lidc() -> list[Row]:
    archive = read_lidc((32, 32, 32), conditional=False)
    values = archive.arrays.astype(np.float32) / 127.5 - 1
    subjects = np.array([item.subject for item in archive.items])
    powers: list[CopyPower] = []
    for split in range(SPLITS):
        rng = np.random.default_rng([SEED, 9, split])
        people = rng.permutation(np.unique(subjects))
        known = np.isin(subjects, people[: int(0.7 * len(people))])
        training = Cohort("training", values[known], subjects[known])
        holdout = Cohort("held-out", values[~known], subjects[~known])
        # The search wants generated volumes; the test is of planted ones alone.
        made = Cohort("generated", holdout.values[:1], np.array(["generated"]))
        evidence = Evidence(training, holdout, made, archive.spacing, modality="mask")
        data = searched(evidence, Options())
        powers.append(copy_power(data, CopyTest.fit(data.null()), LIMIT, PLANTED, rng))
        print(f"split {split}", flush=True)
    rows = []
    for level in LEVELS:
        found = np.concatenate([power.noise[level] for power in powers], axis=1)
        rows += [
            point("lidc", f"noise {level:g}", size, row)
            for size, row in zip((*THIRDS, "all"), (*found, found), strict=True)
        ]
    for kind in powers[0].transforms:
        found = np.concatenate([power.transforms[kind] for power in powers])
        rows.append(point("lidc", f"{kind}, noise {LEVELS[0]:g}", "all", found))
    return rows


STUDIES = {"synthetic": synthetic, "lidc": lidc}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = {"seed": SEED, "torch": torch.__version__, "machine": platform.machine()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    for study in arguments.studies or STUDIES:
        rows = STUDIES[study]()
        text = json.dumps({"about": about, "limit": LIMIT, "rows": rows}, indent=1)
        (RESULTS / f"power-memorization-{study}.json").write_text(text + "\n")
        print("| data | copy | size | found | power | 95 % interval |\n|---|---|---|---|---|---|")
        for row in rows:
            print(
                f"| {row['data']} | {row['copy']} | {row['size']} | {row['found']} of {row['runs']}"
                f" | {row['power']:.2f} | {row['low']:.2f}-{row['high']:.2f} |"
            )


if __name__ == "__main__":
    main()
