from __future__ import annotations

import json

import pytest
import torch

from fastgan.cli import bench
from fastgan.ops.proof import certify, timing


def test_table(cli, monkeypatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 1)
    answer = cli("bench", "--device", "cpu")
    assert answer.code == 0, answer.err
    rows = [line.split() for line in answer.out.splitlines()[1:]]
    passes = {(op, what) for op, what, *_ in rows}
    assert {("norm_act", "second"), ("conv3d", "backward"), ("nearest", "search")} <= passes
    assert {row[2] for row in rows} == {"reference", "native"}
    assert all(float(row[3]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--certify", "--device", "cpu"), "bench: --certify needs a GPU"),
        (("--out", "c.json"), "bench: --out is the place of a certificate"),
    ],
)
def test_rejects(cli, arguments, message) -> None:
    answer = cli("bench", *arguments)
    assert answer.code == 2 and message in answer.err


@pytest.mark.parametrize("problems", [[], ["float32 second has 7 times PyTorch's error"]])
def test_certify_writes_what_was_found(cli, monkeypatch, tmp_path, problems) -> None:
    # The GPU is a pretended one; the trials have tests of their own.
    result = certify.Result({"float32 forward mean": 0.5}, problems)
    monkeypatch.setattr(certify, "certify", lambda *_, **__: result)
    real = bench.certificate
    monkeypatch.setattr(bench, "certificate", lambda device: real(torch.device("cpu")))
    monkeypatch.setattr("fastgan.train.device.resolve", lambda name: torch.device("cuda", 0))
    target = tmp_path / "sm_90.json"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    answer = cli("bench", "--certify", "--out", target)
    assert answer.code == int(bool(problems)), answer.err
    written = json.loads(target.read_text())
    assert written["results"]["norm_act native"]["problems"] == problems
    assert written["torch"] == torch.__version__
    assert ("wrong" if problems else "correct") in answer.out
