"""How far steps between neighbours differ between classes, without a mark and with one.

    python -m bench.studies.audit.fixed_edges [--sets 3]

Of each family of the truth study: clean training sets of 16^3 and 24^3, and sets whose class 1
bears an interior mark of 30 % of the range; the verdicts of `shortcuts.marks.class` on both. Seeds
are fixed. Writes bench/results/audit/fixed_edges.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from bench.studies.truth.faults import FAULTS
from bench.studies.truth.laws import FAMILIES
from bench.studies.truth.worlds import Setting, World
from fastgan.audit.evidence import Options
from fastgan.audit.judgement import settle
from fastgan.audit.shortcuts.fixed_edges import judge_fixed_edges

OUT = Path(__file__).parents[2] / "results" / "audit" / "fixed_edges.json"
SETTINGS = (
    (16, 100, "1", 2, False, "fixed"),
    (16, 200, "1-3", 2, True, "fixed"),
    (24, 200, "1", 2, False, "percentiles"),
)
MARK = ("interior mark of a class, sites known", "30 % of the range")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=3)
    sets = parser.parse_args().sets
    rows = []
    for family in FAMILIES:
        for setting in (Setting(family, *numbers) for numbers in SETTINGS):
            for name in (("clean", ""), MARK):
                size, verdicts, power = [], [], []
                for seed in range(sets):
                    evidence = FAULTS[name].make(World(setting, 500 + seed))
                    finding = judge_fixed_edges(evidence, Options(seed=seed))
                    verdicts.append(settle([finding], alpha=0.05)[0].verdict)
                    size.append(float(finding.value or 0.0))
                    power.append(finding.controls[-1].rate)
                rows.append(
                    {
                        "setting": setting.name,
                        "fault": name[0],
                        "sets": sets,
                        "smallest": round(min(size), 2),
                        "largest": round(max(size), 2),
                        "verdicts": {v: verdicts.count(v) for v in sorted(set(verdicts))},
                        "planted_found": round(float(np.mean(power)), 3),
                    }
                )
                print(rows[-1], flush=True)
                about = {"command": "python -m bench.studies.audit.fixed_edges"}
                OUT.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
