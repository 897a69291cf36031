"""How often a utility study is wrong where generated volumes do nothing, and what it finds.

    python bench/studies/utility_errors.py [--studies 1000] [--parts size power groups]

Every arm reads a scan of its own of each patient, with most of the noise in common and all equally
informative, so no arm is better in truth, and folds share patients as in any cross-validation. Arms
are trained by the stand-in classifier. For the power, the scans of both arms with a GAN are more
informative; for the groups, those of one group are worse.

The same folds are also judged by the plain paired t, and with every seed counted as a fold, to
show why neither is used. Writes bench/results/utility_errors.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import setting

from fastgan.audit.statistics import auc, clopper_pearson
from fastgan.random import Draws
from fastgan.utility.arms import diet_of
from fastgan.utility.cohort import Cohort
from fastgan.utility.corrected_t import corrected_t, student_tail
from fastgan.utility.folds import deal
from fastgan.utility.learners import learn
from fastgan.utility.settings import GAN_ARMS, Arm, Study
from fastgan.utility.subgroups import judge_groups
from fastgan.utility.verdicts import ALPHA, compared, judge

RESULTS = Path(__file__).parents[1] / "results" / "utility_errors.json"
ARMS: tuple[Arm, ...] = ("real", "oversampled", "classic", "gan", "gan+classic")
PATIENTS, SIDE, EFFECT = 240, 2, 0.55
SHARED = 0.8
"""Of the variance of noise: common to the arms, as what they read are the same patients."""
GAINS = (0.0, 0.1, 0.2, 0.3, 0.45)
"""Added to the distance of the classes, in standard deviations of a block."""
LOSSES = (0.1, 0.2, 0.3)
"""Of AUC, in a third of the patients."""
DESIGNS = ((5, 1), (5, 5), (10, 1))
"""Folds and seeds."""
PARTS = ("size", "power", "groups")


def study_of(folds: int, seeds: int) -> Study:
    return Study.model_validate(
        {
            "positive": "ill",
            "folds": folds,
            "seeds": seeds,
            "run": {"data": {"conditional": True}},
            "learner": {"kind": "block-means", "steps": 25, "batch_size": 16},
        }
    )


def scans(
    positive: np.ndarray, effect: np.ndarray, common: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """[N, 1, 2, 2, 2] noise, brighter by `effect` of its deviation in half of the ill's blocks."""
    own = rng.standard_normal(common.shape)
    values = math.sqrt(SHARED) * common + math.sqrt(1.0 - SHARED) * own
    values[:, :, 0] += (positive * effect)[:, None, None, None]
    return values.astype(np.float32)


def simulated(
    number: int, folds: int, seeds: int, gain: float = 0.0, lost: float = 0.0
) -> tuple[dict[Arm, np.ndarray], dict[Arm, list[np.ndarray]], Cohort, Any]:
    """One study: AUC [folds, seeds] and logits of every arm."""
    study = study_of(folds, seeds)
    rng = Draws(number).numpy(0, "utility errors")
    positive = rng.random(PATIENTS) < 0.4
    group = rng.integers(0, 3, PATIENTS)
    cohort = Cohort(
        np.zeros((PATIENTS, 1, SIDE, SIDE, SIDE), np.float32),
        positive.astype(np.int64),
        positive,
        np.array([f"p{i}" for i in range(PATIENTS)]),
        {"site": [str(g) for g in group], "sex": [str(i % 2) for i in range(PATIENTS)]},
        "",
    )
    parts = deal(cohort, study.model_copy(update={"seed": number}))
    common = rng.standard_normal((PATIENTS, 1, SIDE, SIDE, SIDE))
    areas: dict[Arm, np.ndarray] = {}
    logits: dict[Arm, list[np.ndarray]] = {}
    for arm in ARMS:
        better = gain if arm in GAN_ARMS else 0.0
        effect = np.full(PATIENTS, EFFECT + better)
        if arm in GAN_ARMS and lost:
            effect[group == 0] = weaker(lost)
        values = scans(positive, effect, common, rng)
        areas[arm], logits[arm] = np.zeros((len(parts), seeds)), []
        for j, fold in enumerate(parts):
            real = (values[fold.fit], positive[fold.fit])
            diet = diet_of("oversampled", 1.0, real, None, study)
            told = [
                learn(diet, study.learner, 0.4, Draws(number).numpy(j, f"{arm} {s}"))(
                    values[fold.test]
                )
                for s in range(seeds)
            ]
            areas[arm][j] = [auc(one, positive[fold.test]) for one in told]
            logits[arm].append(np.stack(told))
    return areas, logits, cohort, parts


def weaker(lost: float) -> float:
    """The effect at which an ideal reader's AUC is `lost` below that of EFFECT."""
    normal, blocks = NormalDist(), SIDE**3 / 2
    ideal = normal.cdf(EFFECT * math.sqrt(blocks / 2))
    return normal.inv_cdf(max(ideal - lost, 0.5)) * math.sqrt(2 / blocks)


def groups_of(
    logits: dict[Arm, list[np.ndarray]], cohort: Cohort, parts: Any, number: int, margin: float
) -> Any:
    """The table of the arm `gan`, at the level it has in a study of two such arms."""
    named = {
        column: [[str(known[i]) for i in fold.test] for fold in parts]
        for column, known in cohort.columns.items()
    }
    return judge_groups(
        logits["gan"],
        logits["real"],
        [cohort.positive[fold.test] for fold in parts],
        [cohort.subjects[fold.test] for fold in parts],
        named,
        margin=margin,
        level=ALPHA / 2.0 / 2.0,
        rng=Draws(number).numpy(0, "groups"),
    )


def plain_t(values: np.ndarray) -> float:
    """Two-sided p of the paired t that takes every value for an independent trial."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return 2.0 * student_tail(abs(values.mean()) / error, len(values) - 1)


def told(found: dict[str, Any]) -> dict[str, Any]:
    """`found`, printed."""
    print(json.dumps(found), flush=True)
    return found


def rate(found: list[bool]) -> dict[str, Any]:
    low, high = clopper_pearson(int(sum(found)), len(found))
    count = int(sum(found))
    return {
        "found": count,
        "studies": len(found),
        "share": count / len(found),
        "interval": [low, high],
    }


def size(studies: int, folds: int, seeds: int) -> dict[str, Any]:
    """Shares of studies without an effect that say there is one."""
    found: dict[str, list[bool]] = {
        name: []
        for name in ("helps", "harms", "one comparison, corrected", "paired t", "seeds as folds")
    } | {"a group is harmed": []}
    for number in range(studies):
        areas, logits, cohort, parts = simulated(number, folds, seeds)
        means = {arm: one.mean(1) for arm, one in areas.items()}
        share = 1.0 / (folds - 1)
        said = [j.verdict for j in judge(compared(means, share), 0.02, {}, {})]
        found["helps"].append("helps" in said)
        found["harms"].append("harms" in said)
        d = means["gan"] - means["oversampled"]
        one = corrected_t(d, share)
        found["one comparison, corrected"].append(2.0 * min(one.p_above, one.p_below) <= 0.05)
        found["paired t"].append(plain_t(d) <= 0.05)
        every = (areas["gan"] - areas["oversampled"]).ravel()
        found["seeds as folds"].append(plain_t(every) <= 0.05)
        table = groups_of(logits, cohort, parts, number, 0.05)
        found["a group is harmed"].append(any(g.standing == "harmed" for g in table.groups))
    rates = {name: rate(values) for name, values in found.items()}
    return told({"folds": folds, "seeds": seeds, **rates})


def power(studies: int, folds: int, gain: float) -> dict[str, Any]:
    """How often an arm helps, by how much better it is."""
    helps, gains = [], []
    for number in range(studies):
        areas, *_ = simulated(100_000 + number, folds, 1, gain=gain)
        means = {arm: one.mean(1) for arm, one in areas.items()}
        said = judge(compared(means, 1.0 / (folds - 1)), 0.02, {}, {})
        helps.append(any(j.verdict == "helps" for j in said))
        gains.append(float((means["gan"] - means["oversampled"]).mean()))
    return told({"folds": folds, "auc_gained": float(np.mean(gains)), **rate(helps)})


def group_power(studies: int, lost: float) -> dict[str, Any]:
    """How often the one group that loses is named, and another one."""
    named, other, passed = [], [], []
    for number in range(studies):
        _, logits, cohort, parts = simulated(200_000 + number, 5, 1, lost=lost)
        # Those who lose are in both sexes, too, so sites alone are asked.
        del cohort.columns["sex"]
        table = groups_of(logits, cohort, parts, number, 0.05)
        harmed = {g.name for g in table.groups if g.standing == "harmed"}
        named.append("0" in harmed)
        other.append(bool(harmed - {"0"}))
        passed.append(any(g.standing == "not worse" and g.name == "0" for g in table.groups))
    rates = {"named": rate(named), "another": rate(other), "passed": rate(passed)}
    return told({"auc_lost": lost, **rates})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="other parts in it are kept")
    args = parser.parse_args()
    result = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    result |= {"setting": setting(), "patients": PATIENTS}
    fewer = max(args.studies // 3, 10)
    for part in args.parts:
        if part == "size":
            found = [size(args.studies, *design) for design in DESIGNS]
        elif part == "power":
            found = [power(fewer, folds, gain) for folds in (5, 10) for gain in GAINS]
        else:
            found = [group_power(fewer, lost) for lost in LOSSES]
        result[part] = found
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
