"""Sizes of the tests of sites, marks, regions, files and amplification, where nothing is planted.

    python bench/studies/audit/size_sites.py [--runs 1000] [--processes 1]

Volumes of 8^3 lung texture, of 24 subjects with 1, 2 or 4 volumes each, or with 1 at one site and 4
at the other (tied; of the label, in tests of the label). Who takes part is settled by `trading`, as
in the audit. The label makes the middle
brighter, and sites go with the label in two thirds of subjects, so that only tests within classes
may keep quiet. Seeds are fixed: run r of clustering c is SeedSequence([20, c, r]). Writes
bench/results/audit/size_sites.json: rejections at 1 % and 5 % of each test and clustering, with
the p-value that the size is above nominal, Holm-corrected over all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.audit.evidence import Cohort, Evidence
from fastgan.audit.leakage.file_fields import feature_columns
from fastgan.audit.phantoms.fields import lung_texture
from fastgan.audit.shortcuts.amplification import contrast_rows
from fastgan.audit.shortcuts.attributes import detected
from fastgan.audit.shortcuts.marks import find_marks
from fastgan.audit.shortcuts.places import edges_in_corners, regions
from fastgan.audit.shortcuts.regions import read_regions
from fastgan.audit.sites.differences import compare_groups
from fastgan.audit.statistics import holm
from fastgan.audit.statistics.group_tests import Groups, combined, max_t
from fastgan.audit.statistics.trading import trading
from fastgan.measures.descriptors import named_statistics, voxel_descriptors

SUBJECTS, SIZE, PERMUTATIONS = 24, 8, 99
LEVELS = (0.01, 0.05)
TIED = 0
CLUSTERINGS = {1: "1", 2: "2", 4: "4", TIED: "1 or 4, tied"}
"""Volumes of a subject, and how tables name them."""
OUT = Path(__file__).resolve().parents[2] / "results" / "audit" / "size_sites.json"


def volumes(rng: np.random.Generator, labels: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Texture and noise, half of it common to a subject; brighter in the middle for label 1."""
    grid = (SIZE,) * 3
    shared = rng.standard_normal((people.max() + 1, *grid), dtype=np.float32)[people]
    white = (rng.standard_normal(shared.shape, dtype=np.float32) + shared) / np.float32(2**0.5)
    out = 0.12 * lung_texture(white) - 0.5
    out += np.float32(0.06) * rng.standard_normal(shared.shape, dtype=np.float32)
    out[:, 3:5, 3:5, 3:5] += 0.4 * labels[:, None, None, None].astype(np.float32)
    return np.clip(out, -1, 1)


def people_of(clustering: int, group: np.ndarray) -> np.ndarray:
    """[N] the subject of each volume; tied: 1 volume in the first group, 4 in the second."""
    return np.repeat(
        np.arange(SUBJECTS), 1 + 3 * group if clustering == TIED else np.full(SUBJECTS, clustering)
    )


def one_run(clustering: int, run: int) -> dict[str, float]:
    """p-values of all tests on one data set without a fault."""
    rng = np.random.default_rng([20, clustering, run])
    order = rng.permutation(SUBJECTS)
    label = order % 2
    # Two thirds of the subjects of label 1 are at site 1, one third of those of label 0.
    first = np.r_[1 : 2 * SUBJECTS // 3 : 2, 0 : SUBJECTS // 3 : 2]
    site = np.isin(order, first).astype(int)
    return _by_site(clustering, label, site, rng) | _by_label(clustering, label, rng)


def _by_site(
    clustering: int, label: np.ndarray, site: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    people = people_of(clustering, site)
    at = trading(site[people], people, label[people], rng, "the site").volumes
    people = people[at]
    labels, sites = label[people], site[people]
    values = volumes(rng, labels, people)
    described = voxel_descriptors(values)
    named = np.stack(list(named_statistics(values, (1.0,) * 3, "ct").values()), axis=1)
    groups = Groups(sites, people, labels, rng, PERMUTATIONS)
    tests = compare_groups(groups, described, named, rng)
    p = {
        "sites: classifier": groups.p(tests.auc),
        "sites: mean discrepancy": groups.p(tests.discrepancy),
        "sites: named statistics, max-T": groups.p(tests.features.maxima),
        "sites: combined (min-P)": groups.p(tests.combined),
    }
    p["columns: detected in voxels (min-P)"] = detected(described, groups, rng)[1]
    every = np.ones((SIZE,) * 3, dtype=bool)
    p["marks: max-T over voxels, steps, means"] = find_marks(
        values, groups, every, permutations=PERMUTATIONS, alpha=0.05, rng=rng
    ).p
    return p


def _by_label(clustering: int, label: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    people = people_of(clustering, label)
    # Held-out volumes of the subjects against as many generated ones, each of its own.
    real = rng.standard_normal((2, len(people))) + rng.standard_normal((2, SUBJECTS))[:, people]
    made = rng.standard_normal((2, len(people))) * 2**0.5
    truth = np.r_[label[people], label[people]]
    side = np.repeat([0, 1], len(people))
    owners = np.r_[people, SUBJECTS + np.arange(len(people))]
    scores = np.concatenate([real, made], axis=1) + truth
    at = trading(side, owners, truth, rng, "places").volumes
    rows = Groups(side[at], owners[at], truth[at], rng, PERMUTATIONS)
    contrast = contrast_rows(rows, scores[:, at], truth[at]).max(axis=0)
    p = {"amplification: studentised": rows.p(contrast)}

    people = people[trading(label[people], people, None, rng, "the label").volumes]
    labels = label[people]
    values = volumes(rng, labels, people)
    by_label = Groups(labels, people, None, rng, PERMUTATIONS)
    # Block means of one voxel: the corners and the border, which the label does not touch.
    cohort = Cohort("training", values, people.astype(str), labels)
    places = regions(Evidence(cohort, cohort, None, (1.0,) * 3))[:2]
    places.append(edges_in_corners(values.shape[1:]))
    readings = read_regions(places, values, None, by_label, rng)
    told = combined([rows for reading in readings for rows in reading.rows()])
    p["regions: corners, their edges, border"] = by_label.p(told)
    fields = {
        "bytes": rng.integers(1000, 1100, SUBJECTS)[people].astype(float).tolist(),
        "scanner": rng.choice(list("abc"), SUBJECTS)[people].tolist(),
        "spacing": np.round(rng.normal(1.0, 0.1, len(people)), 1).tolist(),
    }
    p["files: max-T over fields"] = max_t(by_label, feature_columns(fields)[0]).p
    return p


def above_nominal(rejections: int, runs: int, level: float) -> float:
    """Exact binomial p-value that the size exceeds `level`."""
    log = [
        math.lgamma(runs + 1)
        - math.lgamma(k + 1)
        - math.lgamma(runs - k + 1)
        + k * math.log(level)
        + (runs - k) * math.log1p(-level)
        for k in range(rejections, runs + 1)
    ]
    return min(1.0, float(np.exp(log).sum()))


def counted(clustering: int, each: list[dict[str, float]]) -> list[dict[str, Any]]:
    """One row a test and level."""
    rows = []
    for test in each[0]:
        p = np.array([found[test] for found in each])
        for level in LEVELS:
            rejections = int((p <= level).sum())
            row = {"test": test, "volumes_per_subject": CLUSTERINGS[clustering], "level": level}
            row |= {"rejections": rejections, "runs": len(each)}
            rows.append(row | {"p_above_nominal": above_nominal(rejections, len(each), level)})
    return rows


def write(rows: list[dict[str, Any]]) -> None:
    """The result file, Holm-corrected over the rows there are."""
    for row, adjusted in zip(rows, holm([r["p_above_nominal"] for r in rows]), strict=True):
        row["p_holm"] = float(adjusted)
    about = {
        "command": "python bench/studies/audit/size_sites.py",
        "subjects": SUBJECTS,
        "voxels": SIZE**3,
        "permutations": PERMUTATIONS,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args()
    runs = chosen.runs
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        for clustering in CLUSTERINGS:
            each = pool.starmap(one_run, [(clustering, r) for r in range(runs)], chunksize=25)
            rows += counted(clustering, each)
            write(rows)
            print(clustering, flush=True)
    print("| test | volumes a subject | at 1 % | at 5 % |\n|---|---|---|---|")
    for one, five in zip(rows[::2], rows[1::2], strict=True):
        shares = " | ".join(f"{r['rejections'] / runs:.3f}" for r in (one, five))
        print(f"| {one['test']} | {one['volumes_per_subject']} | {shares} |")
    print("smallest Holm p:", min(r["p_holm"] for r in rows))


if __name__ == "__main__":
    main()
