"""A cyclegan from the command line, and the verbs that cannot use its run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from fastgan.data import save_volume
from fastgan.train import checkpoint
from fastgan.train.run_folder import RunFolder

FLAGS = [
    *("--variant", "cyclegan", "--shape", "8", "8", "8", "--holdout", "0", "--modality", "map"),
    *("--translator-channels", "4", "6", "--translator-blocks", "1", "--pool-size", "3"),
    *("--patch-critic-channels", "4", "6", "--batch-size", "2", "--device", "cpu"),
    *("--deterministic", "--log-every", "1", "--window-b", "0", "4", "--name", "cycle"),
]


@pytest.fixture(scope="module")
def domains(tmp_path_factory) -> list[str]:
    root, rng = tmp_path_factory.mktemp("domains"), np.random.default_rng(0)
    for domain, top in (("a", 1.0), ("b", 4.0)):
        (root / domain).mkdir()
        for i in range(2):
            volume = rng.uniform(0.0, top, (8, 8, 8)).astype(np.float32)
            save_volume(root / domain / f"{i}.nii.gz", volume, np.eye(4))
    return ["--source", str(root / "a"), "--source-b", str(root / "b")]


@pytest.fixture(scope="module")
def run(cli, domains, tmp_path_factory) -> Path:
    """A run folder of two steps; not to be changed."""
    out = tmp_path_factory.mktemp("runs")
    answer = cli("train", *FLAGS, *domains, "--steps", 2, "--out", out)
    assert answer.code == 0, answer.err
    return Path(answer.out.strip())


def test_train_and_resume(cli, domains, run, tmp_path):
    assert run.name == "00000-cycle-seed0"
    record = RunFolder(run).data()
    assert record["normalisation"]["high"] == 1.0 and record["b"]["normalisation"]["high"] == 4.0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 2] and rows[0]["generator/cycle_A"] > 0
    first = cli("train", *FLAGS, *domains, "--steps", 1, "--out", tmp_path)
    again = cli("train", "--resume", first.out.strip(), "--steps", 2)
    assert again.code == 0, again.err
    a, b = checkpoint.newest(run), checkpoint.newest(Path(first.out.strip()))
    assert a.step == b.step == 2 and a.parts.keys() == b.parts.keys()
    for part, tensors in a.parts.items():
        for name, tensor in tensors.items():
            assert tensor.equal(b.parts[part][name]), f"{part}/{name}"


def test_dry_run(cli, domains):
    answer = cli("train", *FLAGS, *domains, "--dry-run")
    assert answer.code == 0, answer.err
    shown = yaml.safe_load(answer.out)
    assert shown["gan"]["variant"] == "cyclegan" and shown["data"]["window_b"] == [0.0, 4.0]
    assert "# volumes: 2 and 2; classes: none; weights: G_AB " in answer.out
    assert "pool_A" not in answer.out


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("generate", ["--run", "{run}", "--out", "{out}", "--count", "1"]),
        ("inspect", ["{run}"]),
        ("demo", ["--out", "{demo}", "--steps", "1"]),
    ],
    ids=["generate", "inspect", "demo"],
)
def test_other_verbs_point_to_translate(cli, run, tmp_path, monkeypatch, verb, arguments):
    monkeypatch.chdir(tmp_path)
    demo = tmp_path / "demo"
    (demo / "runs").mkdir(parents=True)
    (demo / "runs" / "00000-nodules-32-seed0").symlink_to(run)
    places = {"run": run, "out": tmp_path / "out", "demo": demo}
    answer = cli(verb, *(argument.format(**places) for argument in arguments))
    assert answer.code == 2
    assert "use fastgan translate --run" in answer.err and answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "fastgan-config.yaml").exists()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--source-b", "{empty}"], 10, "domain B"),
        (["--source", "{empty}"], 10, "no volumes"),
        (["--conditional"], 2, "data.conditional: a cyclegan has no classes"),
        (["--penalty", "r1"], 2, "gan.penalty: has no effect"),
        (["--variant", "adversarial"], 2, "only a cyclegan has a domain B"),
        (["--variant", "cycle"], 2, "variant"),
        (["--objective", "wgan-gp"], 2, "choose least-squares"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes(cli, domains, tmp_path, flags, code, said):
    (tmp_path / "empty").mkdir()
    flags = [flag.format(empty=tmp_path / "empty") for flag in flags]
    answer = cli("train", *FLAGS, *domains, *flags, "--steps", 1, "--out", tmp_path / "runs")
    assert answer.code == code, answer.err
    assert said in answer.err and "Traceback" not in answer.err
    assert not list((tmp_path / "runs").glob("0*"))


def test_missing_domain_b(cli, domains):
    answer = cli("train", *FLAGS, *domains[:2], "--dry-run")
    assert answer.code == 2 and "data.source_b: missing" in answer.err
