"""How surely the label judgements find what they are for, and how often they raise a false alarm.

    python bench/studies/audit/power_labels.py phantoms     # about 3 minutes of one core
    python bench/studies/audit/power_labels.py nodules      # about 2 minutes of one core
    python bench/studies/audit/power_labels.py --table

Writes bench/results/audit/power-labels-<study>.json; the last form prints both. Phantoms are drawn
anew for every run, and the classifier is trained anew: runs are independent. The nodules are one
set of patients, of whom parts are drawn without replacement, with one classifier: descriptive.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.labels.alterations import alter, destroy, wobbled
from fastgan.audit.labels.augmentation import Panel, panel_of
from fastgan.audit.labels.generated import judge_generated
from fastgan.audit.labels.instrument import Instrument, instrument
from fastgan.audit.labels.invariance import DELTA, effect
from fastgan.audit.phantoms.volumes import CLASSES, Lesion, Recipe, phantoms
from fastgan.audit.statistics import clopper_pearson

SEED = 20261125
RUNS = 60
STEPS = 30
RECIPE = Recipe(
    size=16,
    extent=24.0,
    lesions=(Lesion(radius=2.0), Lesion(radius=3.2, spiculation=0.6)),
)
SIZES = {"training": 100, "held-out": 100, "generated": 200}
PARTS = (100, 200, 400, 600)
DRAWS = 500
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
SWAPPED = (0.0, 0.1, 0.2, 0.3, 0.5)
RESULTS = Path(__file__).parents[2] / "results" / "audit"
UNIT = (1.5, 1.5, 1.5)

Row = dict[str, Any]


def verdict(found: Any) -> str:
    """What the judgement of one augmentation says."""
    if found.refuted():
        return "refuted"
    return "certified" if found.certified() <= DELTA else "open"


def answers(panel: Panel, modality: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """[N, K] probabilities after each change."""
    kinds = ("flip", "rotate", "scale", "elastic")
    done = {k: panel.read(partial(alter, k, rng=rng, spacing=UNIT)) for k in kinds}
    done["harmless change"] = panel.read(partial(wobbled, rng=rng))
    for name in ("margin smoothed away", "only the core kept", "lesion erased"):
        done[name] = panel.read(partial(destroy, name, modality=modality))
    return done


def judged(
    panel: Panel, done: dict[str, np.ndarray], chosen: np.ndarray, rng: np.random.Generator
) -> dict[str, str]:
    """Verdict of every change on the chosen subjects, and of erasure in a share of them."""
    readings = panel.readings.subset(chosen)
    found = {name: verdict(effect(readings, after[chosen])) for name, after in done.items()}
    for share in SHARES[:-1]:
        hit = rng.random(len(chosen)) < share
        after = np.where(
            hit[:, None], done["lesion erased"][chosen], done["harmless change"][chosen]
        )
        found[f"lesion erased in {share:.0%}"] = verdict(effect(readings, after))
    return found


def rows_of(counts: dict[str, Counter[str]], **about: Any) -> list[Row]:
    """One row per change: how often it got each verdict."""
    rows = []
    for name, counted in counts.items():
        runs = sum(counted.values())
        row: Row = {**about, "change": name, "runs": runs}
        for outcome in ("refuted", "open", "certified"):
            row[outcome] = counted[outcome] / runs
        row["refuted_95"] = list(clopper_pearson(counted["refuted"], runs))
        rows.append(row)
    return rows


def study_phantoms() -> Iterator[list[Row]]:
    """Independent data sets, each with a classifier of its own; rows so far, run after run."""
    changes: dict[str, Counter[str]] = {}
    labels: dict[float, Counter[str]] = {share: Counter() for share in SWAPPED}
    areas = []
    for run in range(RUNS):
        first = 0
        drawn = {}
        for name, count in SIZES.items():
            numbers = np.arange(first, first + count)
            drawn[name] = phantoms(RECIPE, numbers, seed=SEED + run, name=name).first
            first += count
        evidence = Evidence(
            drawn["training"], drawn["held-out"], drawn["generated"], UNIT, CLASSES, "ct"
        )
        options = Options(seed=run, quick=True)
        tool = with_steps(evidence, options)
        areas.append(tool.area)
        rng = np.random.default_rng([SEED, run])
        panel = panel_of(evidence, options, tool)
        done = answers(panel, "ct", rng)
        for name, said in judged(panel, done, np.arange(len(panel.values)), rng).items():
            changes.setdefault(name, Counter())[said] += 1
        made = drawn["generated"]
        for share in SWAPPED:
            wrong = rng.random(len(made)) < share
            swapped = Cohort(
                made.name, made.values, made.subjects, np.where(wrong, 1 - made.labels, made.labels)
            )
            one = judge_generated(
                Evidence(evidence.training, evidence.holdout, swapped, UNIT, CLASSES, "ct"),
                options,
                tool,
            )
            labels[share][one.accepted.verdict] += 1
        yield phantom_rows(changes, labels, areas)


def phantom_rows(
    changes: dict[str, Counter[str]], labels: dict[float, Counter[str]], areas: list[float]
) -> list[Row]:
    """What the runs so far came to."""
    subjects, runs = SIZES["training"] + SIZES["held-out"], len(areas)
    rows = rows_of(changes, study="phantoms", subjects=subjects, area=float(np.mean(areas)))
    for share, counted in labels.items():
        row: Row = {
            "study": "phantoms, labels of generated",
            "swapped": share,
            "patients": SIZES["held-out"],
            "generated": SIZES["generated"],
            "runs": runs,
        }
        rows.append(row | {v: counted[v] / runs for v in ("fail", "warn", "cannot tell", "pass")})
    return rows


def with_steps(evidence: Evidence, options: Options) -> Instrument:
    """The instrument with fewer steps: phantoms of 16^3 need no more."""
    return instrument(evidence, options, steps=STEPS)


def study_nodules() -> Iterator[list[Row]]:
    """The bundled nodules, 32^3, classes < 3 and > 3."""
    from fastgan.config import parse
    from fastgan.data import open_dataset

    config = parse(
        {
            "data": {
                "source": "lidc-nodules",
                "shape": [32, 32, 32],
                "modality": "mask",
                "conditional": True,
                "holdout": 0.3,
            }
        }
    )
    cohorts = []
    for split in ("train", "holdout"):
        data = open_dataset(config.data, split)
        cohorts.append(
            Cohort(
                split,
                np.stack([data.volume(i)[0] for i in range(len(data))]),
                np.array([item.subject for item in data.items]),
                np.asarray(data.labels),
            )
        )
    evidence = Evidence(cohorts[0], cohorts[1], None, UNIT, CLASSES, "mask")
    options = Options(seed=0)
    tool = instrument(evidence, options)
    rng = np.random.default_rng(SEED)
    panel = panel_of(evidence, options, tool)
    done = answers(panel, "mask", rng)
    rows: list[Row] = []
    for subjects in PARTS:
        changes: dict[str, Counter[str]] = {}
        for _ in range(DRAWS):
            chosen = rng.permutation(len(panel.values))[:subjects]
            for name, said in judged(panel, done, chosen, rng).items():
                changes.setdefault(name, Counter())[said] += 1
        rows += rows_of(changes, study="nodules", subjects=subjects, area=tool.area)
        yield rows


def table() -> str:
    """Both studies as Markdown."""
    lines = []
    for name in ("phantoms", "nodules"):
        path = RESULTS / f"power-labels-{name}.json"
        if not path.exists():
            continue
        rows = json.loads(path.read_text())["rows"]
        lines += [f"{name}:", "", "| patients | change | rejected | open | certified | runs |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [
            f"| {r['subjects']} | {r['change']} | {r['refuted']:.3f} | {r['open']:.3f} | "
            f"{r['certified']:.3f} | {r['runs']} |"
            for r in rows
            if "change" in r
        ]
        swapped = [r for r in rows if "swapped" in r]
        if swapped:
            lines += [
                "",
                "| labels swapped | fail | warn | cannot tell | pass |",
                "|---|---|---|---|---|",
            ]
            lines += [
                f"| {r['swapped']:.0%} | {r['fail']:.3f} | {r['warn']:.3f} | "
                f"{r['cannot tell']:.3f} | {r['pass']:.3f} |"
                for r in swapped
            ]
        lines.append("")
    return "\n".join(lines)


STUDIES = {"phantoms": study_phantoms, "nodules": study_nodules}


def main() -> None:
    """Run the studies that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], default=[])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in [] if options.table else options.studies or list(STUDIES):
        about = {"seed": SEED, "torch": torch.__version__, "machine": platform.machine()}
        path = RESULTS / f"power-labels-{name}.json"
        for rows in STUDIES[name]():
            path.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
        print(path)
    print(table())


if __name__ == "__main__":
    main()
