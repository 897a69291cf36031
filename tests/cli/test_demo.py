"""The demo, cut short: everything it promises is there, and nothing is done twice."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from fastgan.cli.main import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", "--steps", "2", "--count", "6", "--out", str(out)]) == 0
    return out


@pytest.mark.slow
def test_leaves_run_volumes_comparison_and_montage(finished):
    with (finished / "volumes" / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["label"] for row in rows] == ["benign", "malignant"] * 3
    assert all((finished / "volumes" / row["path"]).is_file() for row in rows)
    lines = (finished / "comparison.txt").read_text().splitlines()
    table = {line.split()[0]: line for line in lines[1:5]}
    assert table["copier"].endswith("distance ratio")
    # Two steps teach nothing, and the table says so.
    assert not table["generated"].endswith("none")
    assert "not CT" in lines[-1]
    record = json.loads((finished / "comparison.json").read_text())
    assert record["steps"] == 2 and record["outside"]["copier"][-1] == "distance ratio"
    shown = [f"{value:.2f}" for value in record["rows"]["ellipsoids"]["KS surface"]]
    assert " / ".join(shown) in table["ellipsoids"]
    assert (finished / "montage.png").read_bytes().startswith(b"\x89PNG")
    assert not (finished / "volumes.partial").exists()


@pytest.mark.slow
def test_a_finished_demo_is_not_overwritten(finished, capsys):
    before = (finished / "comparison.txt").read_text()
    assert main(["demo", "--steps", "2", "--count", "6", "--out", str(finished)]) == 15
    assert "holds a finished demo" in capsys.readouterr().err
    assert (finished / "comparison.txt").read_text() == before


def test_settings_that_cannot_be_are_refused(tmp_path, capsys):
    assert main(["demo", "--seed", "-1", "--out", str(tmp_path / "out")]) == 2
    assert "demo: seed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_interrupted_demo_goes_on(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "volumes").rename(out / "volumes.partial")
    (run,) = (out / "runs").glob("0*")
    shutil.rmtree(run / "ckpt-2")  # as if killed before it was saved
    assert main(["demo", "--steps", "2", "--count", "6", "--out", str(out)]) == 0
    assert [run] == list((out / "runs").glob("0*"))
    assert (run / "ckpt-2").is_dir() and (out / "volumes" / "manifest.csv").is_file()
