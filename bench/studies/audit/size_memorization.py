"""How often the questions of memorization raise an alarm on clean data, by the real searches.

    python -m bench.studies.audit.size_memorization [--runs 1000] [--family fields]
    python -m bench.studies.audit.size_memorization --table

Clean data sets of the three families of `bench.studies.truth` at 16^3, of about 120 training and
held-out volumes with 1, 2 or 4 of a patient, and 100 generated ones. A line of JSON a set in
bench/results/audit/size-memorization.jsonl; stopped, it goes on where it stopped. A set takes about
4 seconds of one core, so 1,000 of each of the nine kinds take 10 hours. `make truth-data` first, or
the lung is coloured noise and heads are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.studies.truth.laws import FAMILIES
from bench.studies.truth.sources import HEAD
from bench.studies.truth.worlds import Setting, World
from fastgan.arrays import Integers
from fastgan.audit import memorization
from fastgan.audit.evidence import Options
from fastgan.audit.memorization import figures
from fastgan.audit.statistics import clopper_pearson

VOLUMES = 120
EACH = (1, 2, 4)
NOMINAL = (0.01, 0.05)
RESULTS = Path(__file__).parents[2] / "results" / "audit" / "size-memorization.jsonl"

Line = dict[str, Any]


class Repeated(World):
    """A world whose patients have equally many volumes each."""

    def __init__(self, family: str, each: int, seed: int) -> None:
        super().__init__(Setting(family, 16, VOLUMES // each, generated=100), seed)
        self.each = each

    def _volumes(self, site: Integers, rng: np.random.Generator) -> Integers:
        return np.full(len(site), self.each)


def alarms(family: str, each: int, seed: int) -> Line:
    """p-values of one clean data set."""
    evidence = Repeated(family, each, seed).evidence()
    found = memorization.judge(evidence, Options(seed=seed, quick=True))
    p = {finding.key: finding.p for finding in found if finding.p is not None}
    return {"family": family, "each": each, "seed": seed, "p": p}


def lines() -> list[Line]:
    """What was run."""
    if not RESULTS.is_file():
        return []
    return [json.loads(text) for text in RESULTS.read_text().splitlines() if text]


def table() -> None:
    """Alarms by question, family and volumes of a patient."""
    print("| question | family | volumes a patient | nominal | alarms | 95 % interval |")
    print("|---|---|---|---|---|---|")
    done = lines()
    for key in sorted({key for line in done for key in line["p"]}):
        for family, each in sorted({(line["family"], line["each"]) for line in done}):
            p = np.array(
                [
                    line["p"][key]
                    for line in done
                    if (line["family"], line["each"]) == (family, each) and key in line["p"]
                ]
            )
            for nominal in NOMINAL if len(p) else ():
                hits = int(np.count_nonzero(p <= nominal))
                low, high = clopper_pearson(hits, len(p))
                print(
                    f"| {key} | {family} | {each} | {nominal:.0%} | {hits} of {len(p)} "
                    f"| {low:.1%} to {high:.1%} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--family", default="", choices=["", *FAMILIES])
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    if chosen.table:
        table()
        return
    torch.set_num_threads(1)
    # Pictures cost more than the searches.
    figures.canvas = lambda *_, **__: None
    done = {(line["family"], line["each"], line["seed"]) for line in lines()}
    for seed in range(chosen.runs):
        for family in FAMILIES:
            if family == "head" and not HEAD.is_file():
                continue
            for each in EACH:
                if (family, each, seed) in done or chosen.family not in ("", family):
                    continue
                line = alarms(family, each, seed)
                with RESULTS.open("a") as out:
                    out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
