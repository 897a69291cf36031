"""Which kinds of copies the questions of memorization find, on data they were not made with.

    python -m bench.studies.audit.power_copies [--family fields] [--sizes 16 24 32] [--sets 2]
    python -m bench.studies.audit.power_copies --table

Clean data sets of the three families of `bench.studies.truth`, 200 patients and 300 generated
volumes, and the bundled nodules as masks; the audit's own controls, 60 planted copies a kind. A
line of JSON a set in bench/results/audit/power-copies.jsonl; stopped, it goes on where it stopped.
About a minute of one core a set. `make truth-data` first, or heads are left out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.studies.truth.laws import FAMILIES
from bench.studies.truth.sources import HEAD
from bench.studies.truth.worlds import Setting, World
from fastgan.audit import leakage, memorization
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.memorization import figures
from fastgan.data.bundled import read_lidc

SEED = 20261201
PATIENTS, GENERATED, PLANTED = 200, 300, 60
RESULTS = Path(__file__).parents[2] / "results" / "audit" / "power-copies.jsonl"
MASKS = "nodules"

Line = dict[str, Any]


def nodules(seed: int) -> Evidence:
    """One nodule each of 500 patients: 133 in training, 67 held out, 300 as if generated."""
    archive = read_lidc((32, 32, 32), conditional=False)
    values = archive.arrays.astype(np.float32) / 127.5 - 1
    first = np.unique([item.subject for item in archive.items], return_index=True)[1]
    drawn = np.random.default_rng([SEED, seed]).permutation(first)[: PATIENTS + GENERATED]
    ends = np.cumsum([round(PATIENTS * 2 / 3), PATIENTS - round(PATIENTS * 2 / 3), GENERATED])
    parts = np.split(drawn, ends[:2])
    training, holdout, made = (
        Cohort(name, values[part], np.array([f"{name}-{i}" for i in part]))
        for name, part in zip(("training", "held-out", "generated"), parts, strict=True)
    )
    return Evidence(training, holdout, made, (1.5, 1.5, 1.5), modality="mask")


def measured(family: str, size: int, seed: int) -> Line:
    """Verdicts and shares of planted copies that were found, in one clean data set."""
    setting = Setting(family, size, PATIENTS, generated=GENERATED)
    evidence = nodules(seed) if family == MASKS else World(setting, seed).evidence()
    options = Options(seed=seed, planted=PLANTED)
    start = time.process_time()
    found = memorization.judge(evidence, options)
    seconds = time.process_time() - start
    found += [f for f in leakage.judge(evidence, options) if f.key == "leakage.near_duplicates"]
    line: Line = {"family": family, "size": size, "seed": seed, "core_seconds": round(seconds, 1)}
    line["verdicts"] = {s.finding.key: s.verdict for s in settle(found, alpha=options.alpha)}
    line["p"] = {f.key: f.p for f in found if f.p is not None}
    line["found"] = {
        f.key: {c.name: c.rate for c in f.controls if c.expected == "found"} for f in found
    }
    return line


def lines() -> list[Line]:
    """What was run."""
    if not RESULTS.is_file():
        return []
    return [json.loads(text) for text in RESULTS.read_text().splitlines() if text]


def table() -> None:
    """Shares found, mean over sets, by kind of copy and data."""
    done = lines()
    data = sorted({(line["family"], line["size"]) for line in done})
    kinds = {(key, name) for line in done for key, c in line["found"].items() for name in c}
    print("| question | planted | " + " | ".join(f"{f} {s}^3" for f, s in data) + " |")
    print("|---|---|" + "---|" * len(data))
    for key, name in sorted(kinds):
        cells = []
        for one in data:
            rates = [
                line["found"][key][name]
                for line in done
                if (line["family"], line["size"]) == one and name in line["found"].get(key, {})
            ]
            cells.append(f"{np.mean(rates):.2f}" if rates else "")
        print(f"| {key} | {name} | " + " | ".join(cells) + " |")
    for one in data:
        sets = [line for line in done if (line["family"], line["size"]) == one]
        passed = {
            key: sum(line["verdicts"].get(key) == "pass" for line in sets)
            for key in sets[0]["verdicts"]
        }
        print(f"{one[0]} {one[1]}^3: {len(sets)} sets, passed: {passed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 24, 32])
    parser.add_argument("--family", default="", choices=["", *FAMILIES, MASKS])
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    if chosen.table:
        table()
        return
    torch.set_num_threads(1)
    # Pictures cost more than the searches.
    figures.canvas = lambda *_, **__: None
    done = {(line["family"], line["size"], line["seed"]) for line in lines()}
    for seed in range(chosen.sets):
        for size in chosen.sizes:
            for family in (*FAMILIES, MASKS):
                if family == "head" and not HEAD.is_file():
                    continue
                if chosen.family not in ("", family) or (family, size, seed) in done:
                    continue
                if family == MASKS and size != 32:
                    continue
                line = measured(family, size, seed)
                with RESULTS.open("a") as out:
                    out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
