"""Whom a run was trained on is known by hash, and nobody of them is judged on as unseen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgan.config import Config, parse
from fastgan.data import open_dataset, save_volume
from fastgan.data.ledger import KEY, entry_of, refuse_trained, with_earlier
from fastgan.errors import AuditError, CorruptFile
from fastgan.runs.evidence import evidence_of_run
from fastgan.runs.load import load
from fastgan.train import RunFolder, checkpoint, describe, fit
from fastgan.train.build import variant_of
from fastgan.train.made_with import recorded


def _config(folder: Path, steps: int) -> Config:
    return parse(
        {
            "name": "ledger",
            "data": {"source": str(folder), "shape": [8, 8, 8], "modality": "ct"},
            "model": {
                "latent_dim": 2,
                "generator_channels": [4, 4],
                "critic_channels": [4, 4],
            },
            "gan": {"critic_steps": 1},
            "train": {"steps": steps, "batch_size": 2, "device": "cpu", "checkpoint_every": 1},
        }
    )


def _table(folder: Path, held: tuple[str, ...]) -> None:
    rows = [f"v{i}.nii,P{i},{'holdout' if f'P{i}' in held else 'train'}" for i in range(6)]
    (folder / "manifest.csv").write_text("\n".join(["path,subject,split", *rows]) + "\n")


def _train(folder: Path, out: Path, steps: int, **more: Any) -> RunFolder:
    config = _config(folder, steps)
    dataset = open_dataset(config.data, "train")
    return fit(variant_of(config, describe(dataset)), dataset, config, out=out, **more)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "scans", np.random.default_rng(0)
    folder.mkdir()
    for i in range(6):
        values = rng.uniform(-1000.0, 400.0, (8, 8, 8)).astype(np.float32)
        save_volume(folder / f"v{i}.nii", values, np.diag([2.0, 2, 2, 1]))
    _table(folder, ("P4", "P5"))
    return folder


def test_run_folder_checkpoint_and_audit(scans: Path, tmp_path: Path) -> None:
    run = _train(scans, tmp_path / "runs", 1)
    (entry,) = run.data()[KEY]
    assert len(entry["train"]) == 4 and len(entry["holdout"]) == 2
    assert entry == entry_of(run.data()["fingerprint"], ("P0", "P1", "P2", "P3"), ("P5", "P4"))
    assert not any(f"P{i}" in (run.path / "data.json").read_text() for i in range(6))
    found = checkpoint.newest(run.path)
    assert json.loads(recorded(found, "data")[KEY]) == [entry]
    assert len(evidence_of_run(run, found, None).about["subjects"]) == 12


def test_whoever_was_trained_on_is_never_unseen_again(scans: Path, tmp_path: Path) -> None:
    """P3 moves to the held-out after the first step; the run has seen it all the same."""
    run = _train(scans, tmp_path / "runs", 1)
    _table(scans, ("P3", "P4", "P5"))
    run = _train(scans, tmp_path, 2, resume=run.path, allow_change=["data.fingerprint"])
    before, now = run.data()[KEY]
    assert len(before["train"]) == 4 and len(now["train"]) == 3
    found = checkpoint.newest(run.path)
    run.require_same(found)
    with pytest.raises(AuditError, match=r"1 of 3 held-out subjects .* P3;"):
        evidence_of_run(run, found, None)


def test_different_data_have_other_hashes() -> None:
    one, other = (entry_of(mark * 64, ["P0"], []) for mark in "ab")
    assert one["salt"] != other["salt"] and one["train"] != other["train"]
    same = with_earlier({KEY: [one]}, {KEY: [one]})
    assert same == {KEY: [one]}
    assert with_earlier({KEY: [other]}, {KEY: [one]}) == {KEY: [one, other]}
    assert with_earlier({"x": 1}, {}) == {"x": 1}
    refuse_trained({KEY: [one, other]}, ["P1", "P2"], "held-out")
    refuse_trained({}, ["P0"], "held-out")
    with pytest.raises(AuditError, match=r"P0"):
        refuse_trained({KEY: [one, other]}, ["P1", "P0"], "held-out")


@pytest.mark.parametrize("ledger", [[1], {"salt": "x"}, [{"salt": 1}], "P0"])
def test_a_ledger_that_is_none(scans: Path, tmp_path: Path, ledger: Any) -> None:
    run = _train(scans, tmp_path / "runs", 1)
    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    found = checkpoint.newest(copy)
    content = json.loads((copy / "data.json").read_bytes()) | {KEY: ledger}
    (copy / "data.json").write_text(json.dumps(content))
    identity = {
        "settings": found.identity["settings"],
        "data": {**found.identity["data"], KEY: json.dumps(ledger)},
    }
    shutil.rmtree(found.path)
    if isinstance(ledger, dict):
        del identity["data"][KEY]
        identity["data"] |= {f"{KEY}.{k}": json.dumps(v) for k, v in ledger.items()}
    checkpoint.save(copy, 1, found.parts, found.counters, identity)
    with pytest.raises(CorruptFile, match=r"data\.json.*subjects"):
        load(copy, device="cpu")
