"""bench/first_light.sh without a GPU: no line of it may cost a minute of one to a typo."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# What a bare machine lacks; torch, Triton, numpy, pybind11, ninja and pytest are there.
LACKING = (
    *("pydantic", "nibabel", "tyro", "nvtx", "rich", "yaml", "jinja2", "safetensors"),
    *("matplotlib", "scipy", "sklearn", "tensorboardX", "pydicom", "nrrd", "faiss"),
)


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def driver() -> ModuleType:
    return load("fastgan_first_light", ROOT / "bench" / "gpu" / "first_light.py")


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds none of what a bare machine lacks."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        import sys
        from importlib.machinery import PathFinder

        class Bare(PathFinder):
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                if name.split(".")[0] in {LACKING!r}:
                    return None
                return super().find_spec(name, path, target)

        sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
        """)
    )
    return os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def python(bare: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=bare, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_operators_and_all_they_use_need_torch_and_numpy_alone(bare) -> None:
    assert "No module named 'pydantic'" in python(bare, "-c", "import pydantic").stderr
    modules = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for folder in ("ops", "nn", "models", "gans", "reference")
        for path in sorted((ROOT / "fastgan" / folder).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    code = "import importlib\n" + "\n".join(f"importlib.import_module({m!r})" for m in modules)
    done = python(bare, "-c", code)
    assert done.returncode == 0, done.stderr
    done = python(bare, "-m", "fastgan", "doctor")
    assert done.returncode == 0 and "a forward and a double backward pass work" in done.stdout


@pytest.mark.slow
def test_dry_run_goes_every_path(bare, driver, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        ["bash", str(ROOT / "bench" / "first_light.sh"), "--dry-run"],
        env=bare | {"OUT": str(out), "PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = lines(out / "first_light.jsonl")
    checks = {check.name for _, listed in driver.PHASES.values() for check in listed}
    ended = {row["check"]: row for row in rows if row["event"] == "end"}
    assert set(ended) == checks
    assert all(row["rc"] == 0 for row in ended.values())
    for row in rows:
        assert row["dry"] is True and row["torch"] == torch.__version__ and row["device"] == "cpu"
        assert {"driver", "commit", "python", "triton", "seconds"} <= row.keys()
    found = {row["check"]: [r for r in rows if r["check"] == row["check"]] for row in rows}
    measured = [r for r in found["operators"] if r["event"] == "row"]
    assert {r["op"] for r in measured} >= {"norm_act", "bias_act"}
    assert {r["pass"] for r in measured if r["op"] == "norm_act"} == {"fwd", "bwd", "bwd_bwd"}
    assert all(r["over ideal"] > 0 and r["error"] < 1e-2 for r in measured if "ms" in r)
    assert any(r["event"] == "row" and "double backward" in r["pass"] for r in found["cudnn"])
    steps = {(r["what"], r["provider"]) for r in found["critic"] if r["event"] == "row"}
    assert {("critic step", "reference"), ("penalty", "eager NCDHW")} <= steps
    assert ("penalty", "compiled") in steps
    trained = {(r["size"], r["provider"]) for r in found["training"] if r["event"] == "row"}
    assert len({size for size, _ in trained}) == 2
    assert {provider for _, provider in trained} >= {"reference", "stock NDHWC"}
    assert any(r.get("op") == "norm_act" for r in found["certificates"])
    assert (out / "certificate.json").is_file()


def check(driver: ModuleType, code: str, seconds: float = 20.0, name: str = "made up") -> Any:
    return driver.Check(name, ("-c", textwrap.dedent(code)), seconds)


@pytest.fixture
def record(driver, tmp_path: Path) -> Any:
    return driver.Record(tmp_path / "lines.jsonl", {"device": "pretended", "commit": "abc"})


def ran(driver: ModuleType, record: Any, *checks: Any, limit: float = 60.0) -> list[dict[str, Any]]:
    driver.run(checks, limit, record)
    return lines(record.path)


def test_lines_come_before_the_end(driver, record, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    found = ran(
        driver,
        record,
        check(
            driver,
            f"""
            import json, pathlib, time
            print(json.dumps({{"ms": 3}}), flush=True)
            for _ in range(200):
                if "ms" in pathlib.Path({str(record.path)!r}).read_text():
                    pathlib.Path({str(seen)!r}).touch()
                    break
                time.sleep(0.05)
            """,
        ),
    )
    assert seen.exists(), "the line was written only when its check had ended"
    assert [row["event"] for row in found] == ["begin", "row", "end"]
    assert found[1]["ms"] == 3 and found[1]["device"] == "pretended" and found[1]["commit"] == "abc"
    assert found[2]["rc"] == 0


def test_a_check_that_hangs_costs_its_time_alone(driver, record) -> None:
    stuck = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('{"ms": 1}', flush=True)
        time.sleep(60)
    """
    start = time.monotonic()
    found = ran(driver, record, check(driver, stuck, 1.5), check(driver, "print('fine')", name="b"))
    assert time.monotonic() - start < 20
    ends = {row["check"]: row for row in found if row["event"] == "end"}
    assert ends["made up"]["cut"] and ends["made up"]["rc"] != 0
    assert ends["b"]["rc"] == 0 and not ends["b"]["cut"] and ends["b"]["said"] == ["fine"]
    assert any(row.get("ms") == 1 for row in found)


def test_children_of_a_check_end_with_it(driver, record, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"""
        import pathlib, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(pid)!r}).write_text(str(child.pid))
        time.sleep(60)
    """
    ran(driver, record, check(driver, code, 2.0))
    stat = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(50):
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("a child of a check outlived it")


def test_a_crash_is_told_and_the_rest_goes_on(driver, record) -> None:
    found = ran(
        driver,
        record,
        check(driver, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
        check(driver, "raise SystemExit('no kernel for this GPU')", name="b"),
        check(driver, "print('here')", name="c"),
    )
    ends = {row["check"]: row for row in found if row["event"] == "end"}
    assert ends["made up"]["rc"] == -signal.SIGSEGV
    assert ends["b"]["rc"] == 1 and ends["b"]["said"] == ["no kernel for this GPU"]
    assert ends["c"]["rc"] == 0


def test_what_the_phase_has_no_time_for_is_named(driver, record) -> None:
    found = ran(driver, record, check(driver, "pass"), limit=1.0)
    assert [row["event"] for row in found] == ["left out"]


def test_no_rows_of_text_that_only_looks_like_json(driver, record) -> None:
    found = ran(driver, record, check(driver, "print('{not json'); print('[1]'); print('\\x00{}')"))
    assert [row["event"] for row in found] == ["begin", "end"]


def test_limits_of_the_phases(driver) -> None:
    assert {number: limit for number, (limit, _) in driver.PHASES.items()} == {1: 400, 2: 330}
    for limit, checks in driver.PHASES.values():
        assert all(check.seconds <= limit for check in checks)
        names = [check.name for check in checks]
        assert len(set(names)) == len(names)


def test_a_machine_without_a_gpu_is_told_so(driver, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("no CUDA device that this torch can use")
    done = subprocess.run(
        ["bash", str(ROOT / "bench" / "first_light.sh"), "--out", str(tmp_path)],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "no CUDA device that this torch can use" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_provider_that_differs_is_no_figure() -> None:
    sys.path.insert(0, str(ROOT))
    from bench.gpu.clock import relative_error

    ones = torch.ones(3)
    assert relative_error([ones], [ones]) == 0
    assert relative_error([ones, 2 * ones], [ones, ones]) == pytest.approx(1)
    assert not relative_error([ones * torch.nan], [ones]) <= 1


def test_a_wrong_kernel_has_no_time(monkeypatch) -> None:
    sys.path.insert(0, str(ROOT))
    from bench.gpu import operators
    from bench.gpu.clock import Setting
    from fastgan.ops.implementations.cpu import norm_act as native

    right = native.norm_act_bwd

    def wrong(*args: Any) -> tuple[torch.Tensor, ...]:
        d_x, d_weight, d_bias = right(*args)
        return 1.05 * d_x, d_weight, d_bias

    monkeypatch.setattr(native, "norm_act_bwd", wrong)
    monkeypatch.setattr(operators, "PARTS", ("norm_act",))
    rows = list(operators.rows(Setting(torch.device("cpu"), True)))
    for row in rows[1:]:  # after the copy
        if row["pass"] == "bwd":
            assert "ms" not in row and "differs from the reference by" in row["problem"]
        else:
            assert "problem" not in row and row["ms"] > 0
    assert {row["pass"] for row in rows[1:]} == {"fwd", "bwd", "bwd_bwd"}
