from __future__ import annotations

import pytest
import torch

from fastgan.cli.doctor import known_faults


def test_report(cli):
    answer = cli("doctor")
    assert answer.code == 0, answer.out
    for part in ("devices", "extension", "operators", "machine", "warnings"):
        assert f"\n{part}\n" in answer.out
    assert torch.__version__.split("+")[0] in answer.out
    assert "norm_act" in answer.out and "reference" in answer.out
    assert answer.out.endswith("a forward and a double backward pass work\n")


@pytest.mark.parametrize(
    ("torch_version", "cudnn", "count"),
    [
        ("2.11.0+cpu", None, 0),
        ("2.9.1+cu128", 91002, 2),
        ("2.13.0", 90799, 0),
        ("2.13.0", 90800, 1),
        ("2.13.0", 91401, 1),
        ("2.13.0", 91500, 0),
        ("12.9.0", None, 0),
    ],
)
def test_known_faults(torch_version, cudnn, count):
    assert len(known_faults(torch_version, cudnn)) == count


@pytest.mark.parametrize(
    ("driver", "line"),
    [
        (12080, "the driver takes CUDA 12.8 and the extension brings 13.0: update the driver"),
        (13000, "its CUDA runtime reports: out of order"),
        (0, "its CUDA runtime reports: out of order"),
    ],
)
def test_driver_the_extension_cannot_use(driver, line, cli, monkeypatch):
    from fastgan.ops.implementations import extension

    built = {"cuda": "13.0", "cuda_archs": ["90a"]}
    seen = {"error": "out of order", "driver": driver, "runtime": 13000, "devices": []}
    monkeypatch.setattr(extension, "build_info", lambda: built)
    monkeypatch.setattr(extension, "cuda_devices", lambda: seen)
    answer = cli("doctor")
    assert answer.code == 0 and line in answer.out


def test_unusable(cli, monkeypatch):
    from fastgan import ops

    def broken(*args, **kwargs):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(ops, "gradient_penalty", broken)
    answer = cli("doctor")
    assert answer.code == 1 and "unusable: RuntimeError: no kernel" in answer.out
