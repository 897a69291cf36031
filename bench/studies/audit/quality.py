"""How often do the questions of quality alarm without a fault, and pass with one?

    python -m bench.studies.audit.quality size      # 25 minutes of one core, as many nulls as fit
    python -m bench.studies.audit.quality power     # about 20 minutes of one core
    python -m bench.studies.audit.quality axes      # a minute
    python -m bench.studies.audit.quality --table

size: of a pool of each family that was drawn once, patients and a perfect generator's volumes are
drawn without replacement, at 1, 2 and 4 volumes a patient; no controls are planted. Its nulls are
added to those in the file of the same sources of the wing, and written turn after turn. power: the
data sets of bench.studies.truth, drawn anew, with controls. axes: how well the axes of
quality.kinds see the size of a lesion within its class. Writes size-quality.json,
power-quality.json and lesion-axes.json in bench/results/audit/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.studies.truth.faults import FAULTS
from bench.studies.truth.laws import FAMILIES, law_of
from bench.studies.truth.worlds import CLASSES, Setting, World
from fastgan.audit import quality
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.quality.axes import axes_of
from fastgan.audit.statistics import clopper_pearson

RUNS = 1000
POOL, PATIENTS, GENERATED, SIZE = 2500, 200, 300, 16
VOLUMES = (1, 2, 4)
NOMINAL = {
    "quality.repetition": 0.025,
    "quality.kinds": 0.05,
    "quality.spectrum": 0.05,
    "quality.distance": 0.025,
    "quality.diversity": 0.025,
    "quality.coverage": 0.05,
}
"""Level of an alarm: of one end of a 95 % interval, of two, or of all parts together."""
VERDICTS = ("fail", "warn", "cannot tell", "pass", "not asked")
RESULTS = Path(__file__).parents[2] / "results" / "audit"
SETTINGS = (
    Setting("fields", 16, 200, "1"),
    Setting("lung", 16, 200, "1-3", 2, tied=True),
    Setting("head", 16, 200, "1"),
    Setting("fields", 16, 100, "4", 2),
)
PLANTED = (
    ("clean", ""),
    ("few distinct volumes", "20 of 300"),
    ("few distinct volumes", "50 of 300"),
    ("class missing", "no labels"),
    ("class missing", "labelled"),
    ("class missing", "to a third, no labels"),
    ("largest lesions missing", "20 %"),
    ("smallest lesions missing", "20 %"),
    ("smallest lesions missing", "10 %"),
    ("lesions of half the contrast", "all"),
    ("checkerboard", "5 % of the range"),
    ("checkerboard", "1.5 % of the range"),
    ("noise", "double"),
    ("white cube in every centre", "4^3"),
    ("smoothed", "1 voxel"),
)

WRITTEN = {"size": "size-quality", "power": "power-quality", "axes": "lesion-axes"}

Row = dict[str, Any]


def size(seconds: float) -> Iterator[list[Row]]:
    """Verdicts on clean sets drawn from one pool a family, turn after turn, for so long."""
    start = time.perf_counter()
    counted: dict[tuple[str, int, str], Counter[str]] = {}
    for row in _kept("size"):
        cell = (row["family"], row["volumes"], row["finding"])
        counted[cell] = Counter({v: row[v] for v in VERDICTS[:4]})
    run = max((many.total() for many in counted.values()), default=0)
    pools = {family: _pool(family) for family in FAMILIES}
    while run < RUNS and time.perf_counter() - start < seconds:
        for number, (family, (values, labels)) in enumerate(pools.items()):
            for volumes in VOLUMES:
                rng = np.random.default_rng([20261201, number, volumes, run])
                order = rng.permutation(POOL)
                held = round(PATIENTS / 3)
                parts = np.split(order[: PATIENTS + GENERATED], (held, PATIENTS))
                holdout, training = (
                    _cohort(name, values[:, :volumes], labels, part)
                    for name, part in zip(("held-out", "training"), parts[:2], strict=True)
                )
                made = _cohort("generated", values[:, :1], labels, parts[2])
                modality = law_of(family, SIZE).modality
                evidence = Evidence(training, holdout, made, (3.0,) * 3, CLASSES, modality)
                for finding in quality.judge(evidence, Options(seed=run, quick=True)):
                    cell = (family, volumes, finding.key)
                    counted.setdefault(cell, Counter())[finding.accepted.verdict] += 1
        run += 1
        yield [
            _row(key, many, family=family, volumes=volumes, runs=run)
            for (family, volumes, key), many in counted.items()
        ]


def _kept(study: str) -> list[Row]:
    """Rows of the file, if the same sources wrote them."""
    path = RESULTS / f"{WRITTEN[study]}.json"
    written = json.loads(path.read_text()) if path.exists() else {}
    return list(written["rows"]) if written.get("code") == _code() else []


def _code() -> str:
    """Of the wing's sources."""
    digest = hashlib.sha256()
    for path in sorted(Path(quality.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _pool(family: str) -> tuple[Any, Any]:
    """Scans [POOL, 4, S, S, S] of as many people, and their classes."""
    world = World(Setting(family, SIZE), 7)
    rng = np.random.default_rng([20261130, SIZE])
    labels = rng.permutation(POOL) % 2
    scans = np.empty((POOL, max(VOLUMES), SIZE, SIZE, SIZE), np.float32)
    for some in np.split(np.arange(POOL), POOL // 500):
        people = world.law.people(labels[some], rng)
        for scan in range(max(VOLUMES)):
            scans[some, scan] = world.values(world.law.scans(people, np.arange(len(some)), rng))
    return scans, labels


def axes() -> list[Row]:
    """Rank correlation of the best axis with the size of the lesion, within each class."""
    rows: list[Row] = []
    for family in FAMILIES:
        world = World(Setting(family, SIZE), 11)
        people = world.fresh(2000, "axes")
        found, _ = axes_of(world.evidence(generated=people), Options())
        for kind, name in enumerate(CLASSES):
            at = people.labels == kind
            seen = {
                axis: float(np.corrcoef(_ranks(made[at]), _ranks(people.burden[at]))[0, 1])
                for axis, (_, made) in found.items()
            }
            best = max(seen, key=lambda axis: abs(seen[axis]))
            rows.append(
                {"family": family, "class": name, "axis": best, "correlation": seen[best]}
                | {"people": int(at.sum())}
            )
    return rows


def _ranks(column: Any) -> Any:
    return np.argsort(np.argsort(column))


def _cohort(name: str, values: Any, labels: Any, who: Any) -> Cohort:
    count = values.shape[1]
    subjects = np.repeat([f"P{i}" for i in who], count)
    return Cohort(
        name, values[who].reshape(-1, *values.shape[2:]), subjects, np.repeat(labels[who], count)
    )


def power(sets: int, seconds: float) -> Iterator[list[Row]]:
    """Verdicts on sets with one fault each; `sets` of each setting, until the time is over."""
    counted: dict[tuple[str, str, str, str], Counter[str]] = {}
    start = time.perf_counter()
    for seed, setting, name in product(range(sets), SETTINGS, PLANTED):
        if time.perf_counter() - start > seconds:
            return
        evidence = FAULTS[name].make(World(setting, 100 + seed))
        settled = settle(quality.judge(evidence, Options(seed=seed, planted=40)), alpha=0.05)
        verdicts: dict[str, str] = {one.finding.key: one.verdict for one in settled}
        verdicts["any"] = next(v for v in VERDICTS if v in verdicts.values())
        for key, verdict in verdicts.items():
            counted.setdefault((setting.name, *name, key), Counter())[verdict] += 1
        yield [
            _row(key, many, setting=where, fault=fault, strength=strength, runs=many.total())
            for (where, fault, strength, key), many in counted.items()
        ]


def _row(key: str, counted: Counter[str], **about: Any) -> Row:
    alarms, runs = counted["fail"] + counted["warn"], about["runs"]
    row: Row = {"finding": key, **about} | {v: counted[v] for v in VERDICTS[:4]}
    row["alarms_95"] = list(clopper_pearson(alarms, runs))
    if "family" in about and key in NOMINAL:
        row["nominal"] = NOMINAL[key]
        row["p_above"] = at_least(alarms, runs, NOMINAL[key])
    return row


def at_least(found: int, runs: int, rate: float) -> float:
    """Probability of `found` or more in `runs` at a rate."""
    below = sum(math.comb(runs, k) * rate**k * (1 - rate) ** (runs - k) for k in range(found))
    return max(1.0 - below, 0.0)


def table() -> str:
    """The sizes as Markdown; `make tables` writes all studies into their page."""
    lines = ["| finding | family | volumes a patient | runs | fail | warn | cannot tell | pass |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for r in _rows("size-quality"):
        shares = " | ".join(str(r[v]) for v in VERDICTS[:4])
        lines.append(
            f"| {r['finding']} | {r['family']} | {r['volumes']} | {r['runs']} | {shares} |"
        )
    return "\n".join(lines)


def _rows(study: str) -> list[Row]:
    path = RESULTS / f"{study}.json"
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def main() -> None:
    """Run a study, or print what was run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", choices=tuple(WRITTEN))
    parser.add_argument("--sets", type=int, default=10, help="of each setting and fault")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.study:
        seconds = 60 * options.minutes
        studies: dict[str, Callable[[], Iterator[list[Row]]]] = {
            "size": lambda: size(seconds),
            "power": lambda: power(options.sets, seconds),
            "axes": lambda: iter([axes()]),
        }
        path = RESULTS / f"{WRITTEN[options.study]}.json"
        for rows in studies[options.study]():
            path.write_text(json.dumps({"code": _code(), "rows": rows}, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
