"""Power of the tests of marks, sites and files on phantoms; the tables were fixed beforehand.

    python bench/studies/audit/power_sites.py [--only files|sites|marks]

Marks: 300 subjects, a mark of 3^3 voxels at 1 sd on scanner S2, which goes with the label in 90 %
(and, at 16^3, 50 and 97 %) of subjects; scanners permuted within labels. Found means p <= 5 %; the
share at 0.25 %, the first step of Holm among 20 tests, stands beside it. Inside is the share of
runs with hits in which all of them lie within the mark. Sites: an offset of d standard deviations
between the volumes' means. Files: a header field that goes with the label. Run r of a cell c is
SeedSequence([21, c, r]). Writes bench/results/audit/power_sites.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from fastgan.audit.leakage.file_fields import feature_columns
from fastgan.audit.phantoms.fields import lung_texture
from fastgan.audit.phantoms.volumes import Recipe, phantoms
from fastgan.audit.shortcuts.marks import find_marks
from fastgan.audit.sites.differences import compare_groups
from fastgan.audit.statistics import clopper_pearson, permutation_p
from fastgan.audit.statistics.group_tests import Groups, max_t
from fastgan.measures.descriptors import named_statistics, voxel_descriptors

PERMUTATIONS = 499
STRICT = 0.0025
MARKS = ((16, 0.9, 100), (32, 0.9, 60), (16, 0.5, 30), (16, 0.97, 30))
"""Size, agreement, runs."""
EFFECTS, SUBJECTS = (0.3, 0.5, 0.8), (40, 80, 160)
FILE_RUNS, SITE_RUNS = 100, 100
AGREEMENTS = (0.6, 0.7, 0.8)
OUT = Path(__file__).resolve().parents[2] / "results" / "audit" / "power_sites.json"


def row(p: list[float], **cell: object) -> dict[str, object]:
    values = np.array(p)
    found, strict = int((values <= 0.05).sum()), int((values <= STRICT).sum())
    interval = [round(v, 3) for v in clopper_pearson(found, len(p))]
    return {
        **cell,
        "runs": len(p),
        "found": found / len(p),
        "interval": interval,
        "found_strict": strict / len(p),
    }


def marks(agreement: float, size: int, runs: int, cell: int) -> dict[str, object]:
    p, inside, hit = [], 0, 0
    for run in range(runs):
        rng = np.random.default_rng([21, cell, run])
        at = tuple(int(v) for v in rng.integers(0, size - 2, 3))
        recipe = Recipe(size=size, watermark=1.0, agreement=agreement, mark_at=at)
        made = phantoms(recipe, 300, seed=int(rng.integers(2**31)))
        cohort = made.first
        scanner = cohort.columns["scanner"]
        groups = Groups(scanner, cohort.subjects, cohort.labels, rng, PERMUTATIONS)
        every = np.ones(cohort.values.shape[1:], dtype=bool)
        found = find_marks(
            cohort.values, groups, every, permutations=PERMUTATIONS, alpha=0.05, rng=rng
        )
        p.append(found.p)
        hit += bool(found.hits.any())
        inside += bool(found.hits.any()) and not (found.hits & ~made.mark).any()
    return row(
        p, table="marks", voxels=f"{size}^3", agreement=agreement, hits_inside=inside / max(hit, 1)
    )


def sites(effect: float, subjects: int, runs: int, cell: int) -> dict[str, object]:
    p: dict[str, list[float]] = {"combined": [], "classifier": [], "discrepancy": [], "named": []}
    for run in range(runs):
        rng = np.random.default_rng([21, cell, run])
        white = rng.standard_normal((subjects, 8, 8, 8), dtype=np.float32)
        values = 0.12 * lung_texture(white) - 0.5
        values += np.float32(0.06) * rng.standard_normal(values.shape, dtype=np.float32)
        # Brightness of a patient: what an offset of a scanner is measured against.
        values += np.float32(0.05) * rng.standard_normal((subjects, 1, 1, 1), dtype=np.float32)
        site = rng.permutation(subjects) % 2
        deviation = float(values.mean(axis=(1, 2, 3)).std())
        values[site == 1] += np.float32(effect * deviation)
        named = np.stack(list(named_statistics(values, (1.0,) * 3, "ct").values()), axis=1)
        groups = Groups(site, np.arange(subjects), None, rng, PERMUTATIONS)
        tests = compare_groups(groups, voxel_descriptors(values), named, rng)
        for name, values_of in (
            ("combined", tests.combined),
            ("classifier", tests.auc),
            ("discrepancy", tests.discrepancy),
            ("named", tests.features.maxima),
        ):
            p[name].append(groups.p(values_of))
    alone = {k: float((np.array(v) <= 0.05).mean()) for k, v in p.items() if k != "combined"}
    return row(p["combined"], table="sites", d=effect, subjects=subjects, alone=alone)


def files(agreement: float, subjects: int, runs: int, cell: int) -> dict[str, object]:
    p = []
    for run in range(runs):
        rng = np.random.default_rng([21, cell, run])
        labels = rng.permutation(subjects) % 2
        told = np.where(rng.random(subjects) < agreement, labels, 1 - labels)
        fields = {
            "descrip": np.array(["a", "b"])[told].tolist(),
            "bytes": rng.integers(1000, 1100, subjects).astype(float).tolist(),
            "spacing 1": np.round(rng.normal(1.0, 0.1, subjects), 1).tolist(),
            "xyzt_units": rng.choice(list("abc"), subjects).tolist(),
        }
        groups = Groups(labels, np.arange(subjects), None, rng, PERMUTATIONS)
        maxima = max_t(groups, feature_columns(fields)[0]).maxima
        p.append(permutation_p(float(maxima[0]), maxima[1:]))
    return row(p, table="files", agreement=agreement, subjects=subjects)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("files", "sites", "marks"), help="renew one table")
    chosen = parser.parse_args()
    cells = [("files", a, n, FILE_RUNS) for a in AGREEMENTS for n in SUBJECTS]
    cells += [("sites", d, n, SITE_RUNS) for d in EFFECTS for n in SUBJECTS]
    cells += [("marks", a, size, runs) for size, a, runs in MARKS]
    rows = json.loads(OUT.read_text())["rows"] if chosen.only else []
    rows = [r for r in rows if r["table"] != chosen.only]
    for cell, (table, strength, n, runs) in enumerate(cells):
        if chosen.only not in (None, table):
            continue
        study = {"files": files, "sites": sites, "marks": marks}[table]
        rows.append(study(strength, n, runs, cell))
        print(rows[-1], flush=True)
        OUT.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "command": "python bench/studies/audit/power_sites.py",
            "permutations": PERMUTATIONS,
            "strict_level": STRICT,
        }
        OUT.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
