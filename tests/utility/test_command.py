"""The command from its file to its page: killed, in folds, outside, and with settings that fail."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgan.cli.main import main
from fastgan.errors import ConfigError
from fastgan.utility.settings import load
from tests.utility.studies import archive, written

ROOT = Path(__file__).resolve().parents[2]


def results(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return content


def test_a_study_killed_twice_and_gone_on_with_gives_the_same_numbers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, archive(tmp_path / "a.npz"))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["utility", "--config", str(config), "--out", str(whole)]) == 4
    said = capfd.readouterr()
    assert "of work left, if this machine is idle" in said.err
    assert "would be found with a power of 80 %" in said.err or "no gain" in said.err
    assert said.out.rstrip().endswith(f"report {whole / 'utility.html'}")
    assert "verdict: cannot tell" in said.out
    command = [sys.executable, "-m", "fastgan", "utility", "--config", config, "--out", cut]
    # Within the first generator, and between two classifiers.
    for sign in ("fold-0/generator-0/*/ckpt-*", "fold-0/gan-seed0.json"):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        try:
            while not list(cut.glob(sign)):
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert not (cut / "results.json").exists()
    assert main(["utility", "--config", str(config), "--out", str(cut)]) == 4
    assert results(cut) == results(whole)


def test_folds_given_out_are_gathered(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = str(written(tmp_path, archive(tmp_path / "a.npz")))
    out = tmp_path / "out"
    for fold in ("1", "0"):
        assert main(["utility", "--config", config, "--out", str(out), "--fold", fold]) == 0
        assert not (out / "results.json").exists()
    assert "fold 0 is finished; missing: none" in capfd.readouterr().err
    assert main(["utility", "--config", config, "--out", str(out)]) == 4
    found = results(out)
    assert found["schema"] == "fastgan-utility/1"
    assert [one["arm"] for one in found["judgements"]] == ["gan", "gan+classic"]
    assert len(found["judgements"][0]["comparisons"]) == 3
    assert found["trts"] is not None and found["tstr"] is not None
    assert len(found["arms"]["gan"]["AUC"]) == 2 and set(found["arms"]["gan"]["chosen"]) <= {
        0.25,
        0.5,
    }
    page = (out / "utility.html").read_text(encoding="utf-8")
    for told in ("Are generated volumes worth it?", "TSTR", "site A", "Worth in real patients"):
        assert told in page
    assert "http" not in page and "<script" not in page
    assert main(["utility", "--config", config, "--out", str(out), "--fold", "2"]) == 2


def test_an_external_site_is_tested_and_never_trained_on(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.npz", patients=60)
    config = written(
        tmp_path,
        source,
        external={"column": "site", "value": "B"},
        arms=["real", "oversampled", "gan"],
        groups=[],
    )
    out = tmp_path / "out"
    assert main(["utility", "--config", str(config), "--out", str(out)]) == 4
    found = results(out)
    assert found["cohort"]["patients"] == 30 and found["cohort"]["external"] == 30
    difference, low, high = found["external"]["gan"]
    assert low <= difference <= high


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"folds": 1}, "folds: Input should be greater than or equal to 2, got 1"),
        ({"flods": 3}, "unknown key 'flods'; did you mean 'folds'?"),
        ({"arms": ["oversampled", "gan"]}, "'real' is what the others are held against"),
        ({"arms": ["real", "gan"]}, "'gan' needs 'oversampled'"),
        ({"arms": ["real", "classic"]}, "none takes generated volumes; add 'gan'"),
        ({"arms": ["real", "real", "gan"]}, "one is named twice"),
        ({"trials": {"real": [0.1]}}, "every arm gets equally many"),
        ({"trials": {"gan": [0.1, 0.5, 2.0]}}, "trials.gan: a share is at most 1"),
        ({"run": {"data": {"conditional": False}}}, "a study needs classes"),
        (
            {"run": {"data": {"conditional": True, "sampling": "patch"}}},
            "run.data.sampling: 'whole' is meant",
        ),
        ({"run": {"data": {"conditionl": True}}}, "did you mean 'run.data.conditional'?"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    config = (
        written(tmp_path, tmp_path / "none.npz", trials={}, **changes)
        if ("trials" not in changes)
        else written(tmp_path, tmp_path / "none.npz", **changes)
    )
    with pytest.raises(ConfigError) as error:
        load(config)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"positive": "sick"}, 2, "positive: no class 'sick'; classes: ill, well"),
        ({"groups": [{"column": "age"}]}, 2, "groups: no volume has 'age'; known: site"),
        ({"keep": {"diameter": [1.0, 2.0]}}, 2, "keep.diameter: no volume has a number"),
        ({"external": {"column": "site", "value": "Z"}}, 2, "external: 0 of 48 volumes"),
        ({"external": {"column": "city", "value": "Z"}}, 2, "external.column: no volume has"),
        ({"external": {"column": "split", "value": "x"}}, 2, "of split 'holdout' is meant"),
        ({"folds": 9}, 16, "12 positive patients are too few for 9 folds"),
    ],
)
def test_data_that_allow_no_such_study(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    code: int,
    told: str,
) -> None:
    config = written(tmp_path, archive(tmp_path / "a.npz"), **changes)
    out = tmp_path / "out"
    assert main(["utility", "--config", str(config), "--out", str(out)]) == code
    assert told in capfd.readouterr().err
    assert not out.exists()


def test_the_examples_are_studies() -> None:
    for path in sorted((ROOT / "examples").glob("utility_*.yaml")):
        study = load(path)
        assert study.positive == "malignant" and study.thin == 0.1
        assert set(study.arms) == {"real", "oversampled", "classic", "gan", "gan+classic"}
    whole = load(ROOT / "examples" / "utility_nodules.yaml")
    assert whole.seeds >= 5 and whole.folds >= 5


def test_the_holdout_of_a_manifest_may_be_the_external_test(tmp_path: Path) -> None:
    from fastgan.utility.cohort import open_cohort

    settings = load(
        written(
            tmp_path, archive(tmp_path / "a.npz"), external={"column": "split", "value": "holdout"}
        )
    )
    cohort, outside = open_cohort(settings)
    assert outside is not None and len(cohort) + len(outside) == 48
    assert not set(cohort.subjects) & set(outside.subjects)
    everybody, none = open_cohort(settings.model_copy(update={"external": None}))
    assert none is None and len(everybody) == 48
    assert np.isin(outside.subjects, everybody.subjects).all()


def test_the_time_left_is_of_the_folds_that_are_asked_for(tmp_path: Path) -> None:
    from fastgan.utility.planning import seconds_left
    from fastgan.utility.study import task_of
    from fastgan.utility.work import names_of_results

    settings = load(written(tmp_path, archive(tmp_path / "a.npz")))
    task = task_of(settings, tmp_path / "out", lambda line: None)
    assert seconds_left(task, task.folds) > 0.0
    for name in names_of_results(settings):
        (tmp_path / "out" / "fold-0").mkdir(exist_ok=True)
        task.store.write(0, name, {})
    assert seconds_left(task, task.folds[:1]) == 0.0
    assert seconds_left(task, task.folds) > 0.0
