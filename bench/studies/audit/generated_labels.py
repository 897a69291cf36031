"""How often do right labels alarm, and wrong ones pass, whatever the clarity of generated volumes?

    python -m bench.studies.audit.generated_labels        # about 2 minutes of one core
    python -m bench.studies.audit.generated_labels --table

Readings of a classifier of two classes are drawn, patients' with a trait of their own, generated
ones clearer or less clear than patients; each run is independent. 300 runs a row of right labels,
60 of the others. Writes
bench/results/audit/power-generated_labels.json.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit.labels.generated import decided
from fastgan.audit.labels.noise import Reader, clear, reader
from fastgan.audit.statistics import clopper_pearson
from fastgan.errors import AuditError

SEED = 20261130
RUNS, FEWER = 300, 60
CLASSES = ("benign", "malignant")
SEPARATIONS = {0.93: 2.1, 0.98: 3.0}
"""AUC of the classifier -> deviations between the classes' scores."""
VERDICTS = ("fail", "warn", "cannot tell", "pass")
PATIENTS, GENERATED = 200, 300
RESULT = Path(__file__).parents[2] / "results" / "audit" / "power-generated_labels.json"

Row = dict[str, Any]


def read(
    truth: Integers,
    separation: float,
    slope: float,
    wrong: float,
    rng: np.random.Generator,
    whose: Integers | None = None,
) -> tuple[Floats, Integers]:
    """Probabilities [N, 2] of volumes of these classes, and their labels, wrong in a share."""
    drawn = rng.standard_normal(len(truth))
    if whose is not None:  # four fifths of the variance lie between patients
        drawn = np.sqrt(0.8) * rng.standard_normal(whose.max() + 1)[whose] + np.sqrt(0.2) * drawn
    said = 1 / (1 + np.exp(-slope * (separation * (truth - 0.5) + drawn)))
    labels = np.where(rng.random(len(truth)) < wrong, 1 - truth, truth)
    return np.stack([1 - said, said], axis=1), labels


def of_patients(separation: float, volumes: int, wrong: float, rng: np.random.Generator) -> Reader:
    """How 200 patients with so many volumes each are read."""
    who = np.repeat(np.arange(PATIENTS), volumes)
    names = np.array([f"P{i:03d}" for i in who])
    own = np.where(rng.random(PATIENTS) < wrong, 1, 0)
    said, labels = read(who % 2, separation, separation, 0.0, rng, who)
    return reader(said, labels ^ own[who], names)


def row(area: float, volumes: int, swapped: float, clarity: float, own: float, number: int) -> Row:
    """Verdicts of one row; the patients' own labels are wrong in a share `own`."""
    counted: Counter[str] = Counter()
    separation = SEPARATIONS[area]
    many = FEWER if swapped else RUNS
    for run in range(many):
        rng = np.random.default_rng([SEED, number, run])
        truth = np.arange(GENERATED) % 2
        wrong = swapped + own - 2 * swapped * own
        said, labels = read(truth, separation * clarity, separation, wrong, rng)
        try:
            real = of_patients(separation, volumes, own, rng)
            made = clear(said, labels, real.sure)
            counted[decided(real, made, CLASSES, PATIENTS).verdict] += 1
        except AuditError:
            counted["cannot tell"] += 1
    found: Row = {
        "auc": area,
        "volumes": volumes,
        "swapped": swapped,
        "clarity": clarity,
        "own_wrong": own,
        "runs": many,
    }
    found |= {verdict: counted[verdict] / many for verdict in VERDICTS}
    found["alarms_95"] = list(clopper_pearson(counted["fail"] + counted["warn"], many))
    found["pass_95"] = list(clopper_pearson(counted["pass"], many))
    return found


def rows() -> Iterator[list[Row]]:
    """Rows so far, one after another.

    Right labels at 1, 2 and 4 volumes a patient; swapped ones; patients' own that are wrong.
    """
    right = product((0.98, 0.93), (1, 2, 4), (0.0,), (0.85, 1.0, 1.3), (0.0,))
    swapped = product(SEPARATIONS, (1,), (0.1, 0.15, 0.3, 0.5), (1.0, 1.3, 1.6), (0.0,))
    own = product((0.98,), (1, 4), (0.0,), (1.0, 1.3), (0.1,))
    done = []
    for number, case in enumerate([*right, *swapped, *own]):
        done.append(row(*case, number))
        yield done


def table() -> str:
    """As Markdown."""
    lines = [
        "| AUC | volumes a patient | swapped | clarity | patients' own wrong | runs | fail | "
        "warn | cannot tell | pass |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in json.loads(RESULT.read_text())["rows"]:
        shares = " | ".join(f"{r[v]:.3f}" for v in VERDICTS)
        lines.append(
            f"| {r['auc']} | {r['volumes']} | {r['swapped']:.0%} | {r['clarity']} | "
            f"{r['own_wrong']:.0%} | {r['runs']} | {shares} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, or print what was run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true")
    if not parser.parse_args().table:
        about = {"seed": SEED, "patients": PATIENTS, "generated": GENERATED}
        for done in rows():
            RESULT.write_text(json.dumps({"about": about, "rows": done}, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
