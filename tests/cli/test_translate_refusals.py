"""What cannot be translated is refused before work, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.translator_run import affine_of, body, save


def bad_inputs(folder: Path) -> dict[str, Path]:
    """Files that cannot be translated."""
    folder.mkdir()
    good = body((16, 16, 12)).astype(np.float32)
    poisoned = good.copy()
    poisoned[3, 4, 5] = np.nan
    save(folder / "nan.nii", poisoned, affine_of("RAS"))
    save(folder / "constant.nii", np.full((16, 16, 12), 7, np.int16), affine_of("RAS"))
    save(folder / "four.nii", np.stack([good, good], -1), affine_of("RAS"))
    wide = good.copy()
    wide = np.pad(wide, ((0, 100), (0, 100), (0, 100)))
    save(folder / "huge.nii", wide, affine_of("RAS", (99.0, 99.0, 99.0)))
    save(folder / "unsigned.nii", (good + 1000).astype(np.uint16), affine_of("RAS"))
    (folder / "cut.nii").write_bytes((folder / "nan.nii").read_bytes()[:-40])
    (folder / "rows.csv").write_text("path,modality\nconstant.nii,mr\n")
    (folder / "notes.txt").write_text("no volume")
    save(folder / "good.nii", good, affine_of("RAS"))
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("nan", 10, "NaN or infinite"),
        ("constant", 10, "constant volume"),
        ("four", 10, "where a 3-D volume is meant"),
        ("huge", 13, "mm makes"),
        ("unsigned", 10, "not in HU"),
        ("cut", 11, "cut.nii"),
        ("rows", 2, "constant.nii is mr, the translator was trained on ct"),
        ("notes", 10, "notes.txt"),
        ("missing", 2, "no such file or folder"),
    ],
)
def test_rejects_volumes(cli, runs, translator, tmp_path, name, code, said):
    files = bad_inputs(tmp_path / "in")
    source = files.get(name, tmp_path / "in" / f"{name}.nii")
    out = tmp_path / "out"
    arguments = ("--run", runs["ct-mr"], "--direction", "A_to_B", "--in", source, "--out", out)
    answer = cli("translate", *arguments)
    assert answer.code == code, answer.err
    assert said in answer.err and "Traceback" not in answer.err
    assert name in answer.err
    assert not out.exists()


def test_one_bad_volume_stops_before_the_first_is_written(cli, runs, translator, tmp_path):
    files = bad_inputs(tmp_path / "in")
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("good", "nan"):
        (folder / files[name].name).write_bytes(files[name].read_bytes())
    out = tmp_path / "out"
    arguments = ("--run", runs["ct-mr"], "--direction", "A_to_B", "--in", folder, "--out", out)
    answer = cli("translate", *arguments)
    assert answer.code == 10 and "nan.nii" in answer.err and not out.exists()


@pytest.mark.parametrize(
    ("run", "arguments", "code", "said"),
    [
        ("ct-mr", ["--direction", "A_to_b"], 2, "did you mean 'A_to_B'?"),
        ("ct-mr", ["--direction", "CT"], 2, "known: A_to_B, B_to_A"),
        ("ct-mr", [], 2, "--direction"),
        ("one", ["--direction", "A_to_B"], 2, "no cyclegan"),
        ("two channels", ["--direction", "A_to_B"], 2, "trained on 2"),
        ("ct-mr", ["--direction", "A_to_B", "--overlap", 1.0], 2, "overlap"),
        ("ct-mr", ["--direction", "A_to_B", "--checkpoint", 9], 10, "ckpt-9"),
        ("ct-mr", ["--direction", "A_to_B", "--device", "tpu"], 2, "train.device"),
        ("ct-mr", ["--direction", "A_to_B", "--padd"], 2, "did you mean '--pad'?"),
    ],
)
def test_rejects_settings(cli, runs, translator, tmp_path, run, arguments, code, said):
    source = save(tmp_path / "a.nii", body((16, 16, 12)).astype(np.int16), affine_of("RAS"))
    out = tmp_path / "out"
    answer = cli("translate", "--run", runs[run], "--in", source, "--out", out, *arguments)
    assert answer.code == code, answer.err
    assert said in answer.err
    assert not out.exists() or not any(out.iterdir())


def test_nothing_is_overwritten(cli, runs, translator, tmp_path):
    source = save(tmp_path / "a.nii", body((16, 16, 12)).astype(np.int16), affine_of("RAS"))
    arguments = ("--run", runs["ct-mr"], "--direction", "A_to_B", "--in", source)
    before = sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir())
    answer = cli("translate", *arguments, "--out", tmp_path)
    assert answer.code == 10 and "not an empty folder" in answer.err
    assert sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir()) == before


def test_a_network_that_gives_nan_writes_nothing(cli, runs, translator, tmp_path):
    translator(lambda x: x * torch.nan)
    source = save(tmp_path / "a.nii", body((16, 16, 12)).astype(np.int16), affine_of("RAS"))
    out = tmp_path / "out"
    arguments = ("--run", runs["ct-mr"], "--direction", "A_to_B", "--in", source, "--out", out)
    answer = cli("translate", *arguments)
    assert answer.code == 14 and "a.nii" in answer.err and not any(out.iterdir())
