"""How often do the questions of quality alarm without a fault, and pass with one?

    python -m bench.studies.audit.quality size      # about 25 minutes of one core
    python -m bench.studies.audit.quality power     # about 20 minutes of one core
    python -m bench.studies.audit.quality --table

size: of a pool of random fields that were drawn once, patients and a perfect generator's volumes
are drawn without replacement, at 1, 2 and 4 volumes a patient; no controls are planted. power: the
data sets of bench.studies.truth, drawn anew, with controls. Writes
bench/results/audit/size-quality.json and power-quality.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.studies.truth.faults import FAULTS
from bench.studies.truth.worlds import CLASSES, Setting, World
from fastgan.audit import quality
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.statistics import clopper_pearson

RUNS = 200
POOL, PATIENTS, GENERATED, SIZE = 2500, 200, 300, 16
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
    ("largest lesions missing", "20 %"),
    ("checkerboard", "5 % of the range"),
    ("checkerboard", "1.5 % of the range"),
    ("noise", "double"),
    ("white cube in every centre", "4^3"),
    ("smoothed", "1 voxel"),
)

Row = dict[str, Any]


def size(seconds: float) -> list[Row]:
    """Verdicts on clean sets drawn from one pool, until the time is over."""
    world = World(Setting("fields", SIZE), 7)
    rows = []
    pools = {}
    for volumes in (1, 2, 4):
        rng = np.random.default_rng([20261130, volumes])
        labels = rng.permutation(POOL) % 2
        people = world.law.people(labels, rng)
        scans = [
            world.values(world.law.scans(people, np.arange(POOL), rng)) for _ in range(volumes)
        ]
        pools[volumes] = np.stack(scans, axis=1), labels
    for volumes, (values, labels) in pools.items():
        counted: dict[str, Counter[str]] = {}
        start, run = time.perf_counter(), 0
        while run < RUNS and time.perf_counter() - start < seconds / len(pools):
            rng = np.random.default_rng([20261201, volumes, run])
            order = rng.permutation(POOL)
            held = round(PATIENTS / 3)
            parts = np.split(order[: PATIENTS + GENERATED], (held, PATIENTS))
            holdout, training = (
                _cohort(name, values, labels, part)
                for name, part in zip(("held-out", "training"), parts[:2], strict=True)
            )
            made = _cohort("generated", values[:, :1], labels, parts[2])
            evidence = Evidence(training, holdout, made, (3.0,) * 3, CLASSES, "mr")
            for finding in quality.judge(evidence, Options(seed=run, quick=True)):
                name = finding.key
                counted.setdefault(name, Counter())[finding.accepted.verdict] += 1
            run += 1
        rows += [_row(key, many, volumes=volumes, runs=run) for key, many in counted.items()]
    return rows


def _cohort(name: str, values: Any, labels: Any, who: Any) -> Cohort:
    count = values.shape[1]
    subjects = np.repeat([f"P{i}" for i in who], count)
    return Cohort(
        name, values[who].reshape(-1, *values.shape[2:]), subjects, np.repeat(labels[who], count)
    )


def power(sets: int, seconds: float) -> list[Row]:
    """Verdicts on sets with one fault each; `sets` of each setting, until the time is over."""
    counted: dict[tuple[str, str, str, str], Counter[str]] = {}
    start = time.perf_counter()
    for seed in range(sets):
        for setting in SETTINGS:
            for name in PLANTED:
                if time.perf_counter() - start > seconds:
                    break
                evidence = FAULTS[name].make(World(setting, 100 + seed))
                found = quality.judge(evidence, Options(seed=seed, planted=40))
                settled = settle(found, alpha=0.05)
                verdicts = {one.finding.key: one.verdict for one in settled}
                worst = next(v for v in VERDICTS if v in verdicts.values())
                verdicts["any"] = worst
                for key, verdict in verdicts.items():
                    counted.setdefault((setting.name, *name, key), Counter())[verdict] += 1
    return [
        _row(key, many, setting=setting, fault=fault, strength=strength, runs=many.total())
        for (setting, fault, strength, key), many in counted.items()
    ]


def _row(key: str, counted: Counter[str], **about: Any) -> Row:
    alarms, runs = counted["fail"] + counted["warn"], about["runs"]
    row: Row = {"finding": key, **about} | {v: counted[v] for v in VERDICTS[:4]}
    row["alarms_95"] = list(clopper_pearson(alarms, runs))
    return row


def table() -> str:
    """The sizes as Markdown; `make tables` writes the powers into their page."""
    lines = ["| finding | volumes a patient | runs | fail | warn | cannot tell | pass |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for r in _rows("size"):
        shares = " | ".join(str(r[v]) for v in VERDICTS[:4])
        lines.append(f"| {r['finding']} | {r['volumes']} | {r['runs']} | {shares} |")
    return "\n".join(lines)


def _rows(study: str) -> list[Row]:
    path = RESULTS / f"{study}-quality.json"
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def main() -> None:
    """Run a study, or print what was run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", choices=("size", "power"))
    parser.add_argument("--sets", type=int, default=10, help="of each setting and fault")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.study:
        seconds = 60 * options.minutes
        rows = size(seconds) if options.study == "size" else power(options.sets, seconds)
        path = RESULTS / f"{options.study}-quality.json"
        path.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
