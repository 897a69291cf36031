"""The command line under torchrun itself: `torchrun ... -m fastgan train`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastgan.train import checkpoint
from tests.train.tiny_run import rows

CONFIG = """
name: tiny
data: {source: lidc-nodules, modality: mask, holdout: 0.3, conditional: true}
model: {latent_dim: 8, generator_channels: [8, 4], critic_channels: [4, 8], fold: [4, 4, 4]}
gan: {critic_steps: 1}
train: {steps: 4, batch_size: 4, device: cpu, log_every: 1, sample_every: 50, checkpoint_every: 50}
"""


def torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TORCHELASTIC")}
    return subprocess.Popen(
        [*command, "-m", "fastgan", "train", *arguments],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_train_stop_and_go_on(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    whole = torchrun(tmp_path, "--config", "tiny.yaml")
    out, err = whole.communicate(timeout=240)
    assert whole.returncode == 0, err
    # One rank reports, and names the folder on standard output.
    assert out.splitlines() == ["runs/00000-tiny-seed0"]
    assert err.count("run folder:") == err.count("step 4/4") == 1
    run = tmp_path / "runs" / "00000-tiny-seed0"
    assert checkpoint.newest(run).step == len(rows(run)) == 4

    longer = torchrun(tmp_path, "--resume", str(run), "--steps", "100000")
    until = time.monotonic() + 240
    while len((run / "metrics.jsonl").read_text().splitlines()) < 8:
        assert longer.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    longer.send_signal(signal.SIGTERM)
    _, err = longer.communicate(timeout=60)
    assert longer.returncode != 0 and err.count("stopped by signal 15 after") == 1
    step = checkpoint.newest(run).step
    assert step == len(rows(run)) >= 8
    last = json.loads((run / "history.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"], last["reason"]) == ("stopped", step, "SIGTERM")


@pytest.mark.slow
def test_one_volume_over_two_and_then_alone(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    whole = torchrun(tmp_path, "--config", "tiny.yaml", "--split", "2", "1", "1")
    out, err = whole.communicate(timeout=240)
    assert whole.returncode == 0, err
    run = tmp_path / "runs" / "00000-tiny-seed0"
    assert out.splitlines() == ["runs/00000-tiny-seed0"] and len(rows(run)) == 4

    alone = [sys.executable, "-m", "fastgan", "train", "--resume", str(run), "--steps", "5"]
    place = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}}
    refused = subprocess.run(alone, capture_output=True, text=True, timeout=240, **place)
    assert refused.returncode == 2 and "train.split: [2, 1, 1] needs 2 processes" in refused.stderr
    subprocess.run([*alone, "--split", "1", "1", "1"], check=True, timeout=240, **place)
    assert checkpoint.newest(run).step == len(rows(run)) == 5
