"""The studies of the demo train what they say, on the patients they say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastgan.config import load
from fastgan.data import level, open_dataset

ROOT = Path(__file__).resolve().parents[1]
DEMO = load(ROOT / "examples" / "nodules_32.yaml")


def study(name: str) -> ModuleType:
    path = ROOT / "bench" / "studies" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"fastgan_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ABLATION, REPEATS = study("demo_ablation"), study("demo_repeats")


def test_the_present_recipe_is_the_shipped_one() -> None:
    present = ABLATION.recipes()["present"]
    assert present == {
        "minibatch_stddev": DEMO.model.minibatch_stddev,
        "batch size": DEMO.train.batch_size,
        "steps": DEMO.train.steps,
        "average of weights": DEMO.train.ema_decay,
        "levels": (level.SHARE, level.REACH),
    }
    whole = ABLATION.config_of(present, DEMO.seed, 1.0)
    rest = {"checkpoint_every", "sample_every", "precision"}
    assert whole.train.ema_decay == pytest.approx(DEMO.train.ema_decay)
    assert whole.model == DEMO.model and whole.gan == DEMO.gan and whole.data == DEMO.data
    ours, shipped = whole.train.model_dump(), DEMO.train.model_dump()
    assert {k for k in ours if ours[k] != pytest.approx(shipped[k])} <= rest


def test_each_change_stands_alone_and_is_left_out_once() -> None:
    recipes = ABLATION.recipes()
    assert len(recipes) == 2 + 2 * len(ABLATION.CHANGES)
    for name in ABLATION.CHANGES:
        alone, without = recipes[f"{name} alone"], recipes[f"without {name}"]
        assert [k for k in alone if alone[k] != recipes["earlier"][k]] == [name]
        assert [k for k in without if without[k] != recipes["present"][k]] == [name]


def test_levels_are_put_back() -> None:
    before = level.SHARE, level.REACH
    with ABLATION.levels_of(0.3, 2.5):
        record = open_dataset(DEMO.data, "train").normalisation
    assert record["share"] == 0.3 and before == (level.SHARE, level.REACH)


def test_the_inner_split_looks_at_no_unseen_patient() -> None:
    known, held = ABLATION.inner_split(open_dataset(DEMO.data, "train"))
    sets = [{item.subject for item in split.items} for split in (known, held)]
    unseen = {item.subject for item in open_dataset(DEMO.data, "holdout").items}
    assert not sets[0] & sets[1] and not (sets[0] | sets[1]) & unseen
    assert 0.2 < len(sets[1]) / len(sets[0] | sets[1]) < 0.4


def test_split_0_is_the_demos_and_others_are_not() -> None:
    shipped = open_dataset(DEMO.data, "train"), open_dataset(DEMO.data, "holdout")
    found = REPEATS.split_of(DEMO, 0)
    for ours, theirs in zip(found, shipped, strict=True):
        assert [i.subject for i in ours.items] == [i.subject for i in theirs.items]
        assert np.array_equal(ours.volume(3), theirs.volume(3))
    other = REPEATS.split_of(DEMO, 1)
    held = [{i.subject for i in splits[1].items} for splits in (found, other)]
    assert held[0] != held[1] and 0.2 < len(held[1]) / 614 < 0.4


def test_every_committed_line_is_of_these_recipes() -> None:
    recipes = ABLATION.recipes()
    lines = [json.loads(line) for line in ABLATION.RESULTS.read_text().splitlines()]
    keys = [(line["recipe"], line["seed"], line["share"]) for line in lines]
    assert len(set(keys)) == len(keys)
    for line in lines:
        assert line["steps"] == round(line["share"] * recipes[line["recipe"]]["steps"])
