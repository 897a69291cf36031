"""How surely one planted copy among 1,000 generated volumes is found, at a size of 1 %.

    python bench/studies/audit/power_memorization.py [synthetic|lidc ...]

Writes bench/results/audit/power-memorization-<data>.json. Synthetic: 1,000 training and 1,000
held-out feature vectors, 10 data sets of each kind, 40 copies a point in each. LIDC: the bundled
nodules of at least 6 mm at 32^3, 70 % of the patients in training, 24 splits, 30 copies of each
third by size a point in each. Splits of one collection are not independent: the intervals are of
these splits. Every distance between two nodules is searched for once; white noise of length L, in
32,768 voxels, adds L^2 to the squares of all but that to its source, whose distance is L. (Audits
plant real volumes.) About 2 minutes of one core.
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

from fastgan.arrays import Bools, Floats
from fastgan.audit.likeness.copy_search import CopySearch
from fastgan.audit.likeness.outliers import CopyTest, isolation
from fastgan.audit.memorization.power import LEVELS, THIRDS
from fastgan.audit.statistics import clopper_pearson
from fastgan.data.bundled import read_lidc

SEED = 20261126
LIMIT = 0.01 / 1000
SETS, COPIES = 10, 40
SPLITS, COPIES_OF_THIRD = 24, 30
RESULTS = Path(__file__).parents[2] / "results" / "audit"

Row = dict[str, object]


def point(data: str, what: str, size: str, found: Bools) -> Row:
    hits, runs = int(np.count_nonzero(found)), int(found.size)
    low, high = clopper_pearson(hits, runs)
    row = {"data": data, "copy": what, "size": size, "found": hits, "runs": runs}
    return row | {"power": hits / runs, "low": low, "high": high}


def synthetic() -> list[Row]:
    rows = []
    for kind in KINDS:
        found: dict[float, list[Bools]] = {level: [] for level in LEVELS}
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
    who = np.unique([item.subject for item in archive.items], return_inverse=True)[1]
    every = CopySearch(values, who).search(values, len(values))
    matrices = []
    for found in every:
        matrix = np.empty(found.distance.shape)
        np.put_along_axis(matrix, found.index, found.distance, axis=1)
        matrices.append(matrix)
    size = ((values + 1) / 2).sum(axis=(1, 2, 3))
    result: dict[float, list[Bools]] = {level: [] for level in LEVELS}
    for split in range(SPLITS):
        rng = np.random.default_rng([SEED, 9, split])
        order = rng.permutation(who.max() + 1)
        known = np.isin(who, order[: int(0.7 * len(order))])
        own = who[known][:, None] == who[known][None]
        held = [matrix[np.ix_(~known, known)] for matrix in matrices]
        among = [matrix[np.ix_(known, known)] for matrix in matrices]
        others = [np.where(own, np.inf, matrix) for matrix in among]
        test = CopyTest.fit(
            [
                np.concatenate([nearest_ten(a), nearest_ten(b)])
                for a, b in zip(held, others, strict=True)
            ]
        )
        typical = float(np.median(held[0].min(axis=1)))
        thirds = np.array_split(np.argsort(size[known], kind="stable"), 3)
        for level in LEVELS:
            length = level * typical
            copies = [np.sqrt(matrix**2 + length**2) for matrix in among]
            for matrix in copies:
                np.fill_diagonal(matrix, length)
            flags = test.p([nearest_ten(matrix) for matrix in copies]) <= LIMIT
            rows = [flags[rng.choice(third, COPIES_OF_THIRD, replace=False)] for third in thirds]
            result[level].append(np.stack(rows))
    rows = []
    for level, found in result.items():
        flags = np.concatenate(found, axis=1)
        rows += [
            point("lidc", f"noise {level:g}", name, part)
            for name, part in zip((*THIRDS, "all"), (*flags, flags), strict=True)
        ]
        split = [float(part.mean()) for part in found]
        rows.append(point("lidc", f"noise {level:g}", "worst split", found[int(np.argmin(split))]))
    return rows


def nearest_ten(distance: NDArray[np.float64]) -> Floats:
    return isolation(np.sort(np.partition(distance, 9, axis=1)[:, :10], axis=1))


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
