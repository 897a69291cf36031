"""`torchrun -m fastgan generate`: several processes write the set that one would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastgan
from fastgan.config import DataConfig
from fastgan.data import open_dataset
from fastgan.runs.verify import verify
from fastgan.train.run_key import public_key
from tests.runs.conftest import FIT, SMALL

# After "--" torchrun does not take --run for an option of its own.
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "-m", "--")


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = DataConfig(source=str(scans), shape=(8, 8, 8), modality="ct", conditional=True)
    out = tmp_path_factory.mktemp("runs")
    dataset = open_dataset(data, "train")
    return fastgan.NonSaturatingGAN(**SMALL).fit(dataset, out=out, **FIT).path


def generate(run: Path, out: Path, *by: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(by or ("-m",)), "fastgan", "generate", "--run", str(run)]
    arguments = {"--out": str(out), "--count": "5", "--device": "cpu", "--seed": "3"} | more
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TORCHELASTIC")}
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [*command, *(part for pair in arguments.items() for part in pair)],
        env=inherited | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_the_set_of_three_processes_is_that_of_one(run: Path, tmp_path: Path) -> None:
    one = generate(run, tmp_path / "one", **{"--format": "bids"})
    assert one.returncode == 0, one.stderr
    three = generate(run, tmp_path / "three", *TORCHRUN, **{"--format": "bids"})
    assert three.returncode == 0, three.stderr
    assert three.stdout.splitlines() == [str(tmp_path / "three" / "manifest.csv")]
    written = contents(tmp_path / "three")
    assert written == contents(tmp_path / "one")
    assert len(json.loads(written["passport.json"])["volumes"]) == 5
    assert {found.standing for found in verify(tmp_path / "three", public_key(run)).checked} == {
        "intact"
    }


@pytest.mark.slow
def test_what_one_process_refuses_three_refuse_in_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    found = generate(run, tmp_path / "full", *TORCHRUN)
    assert found.returncode != 0
    lines = [line for line in found.stderr.splitlines() if line.startswith("fastgan: ")]
    assert len(lines) == 1 and "is not an empty folder" in lines[0]
    assert contents(tmp_path / "full") == {"notes.txt": b"mine"}
