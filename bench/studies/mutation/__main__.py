"""Runs a seeded sample of mutants against the tests of their file, and writes the table."""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Loaded once, before the forks.
import numpy  # noqa: F401
import pytest
import torch
import torch._dynamo
import torch.testing._internal.optests

from bench.studies.mutation import cpp_mutants, python_mutants

ROOT = Path(__file__).resolve().parents[3]
# Tests that cover a file, below tests/, those likeliest to notice first; a folder means all in it.
PYTHON = {
    "fastgan/ops/norm_act.py": ["ops/test_norm_act.py", "ops/test_norm_act_conv.py"],
    "fastgan/ops/bias_act.py": ["ops/test_bias_act.py", "ops/test_penalty_budget.py"],
    "fastgan/ops/gradient_penalty.py": [
        "ops/test_gradient_penalty.py",
        "ops/test_penalty_budget.py",
    ],
    "fastgan/ops/registration.py": [
        "ops/test_registration.py",
        "ops/test_gradient_penalty.py",
        "ops/test_penalty_budget.py",
    ],
    "fastgan/ops/conv3d_passes.py": [
        "ops/test_conv3d.py",
        "ops/test_conv3d_single.py",
        "ops/test_conv3d_packed.py",
        "ops/test_conv_transpose3d.py",
    ],
    "fastgan/ops/norm_act_conv_passes.py": [
        "ops/test_norm_act_conv.py",
        "ops/test_penalty_budget.py",
    ],
}
# The decision layer of the audit: what the limits are, what controls decide, what is said.
AUDIT = {
    **{
        f"fastgan/audit/rules/{part}.py": ["audit/test_rules.py"]
        for part in (
            *("__init__", "whole_audit", "copies_and_labels"),
            *("shortcuts_and_sites", "quality_and_translation"),
        )
    },
    "fastgan/audit/judgement.py": ["audit/test_judgement.py", "audit/test_run.py", "audit/report"],
    "fastgan/audit/controls.py": [
        "audit/test_controls.py",
        "audit/statistics/test_group_tests.py",
        "audit/leakage",
    ],
    "fastgan/audit/run.py": ["audit/test_run.py"],
    "fastgan/audit/evidence.py": [
        "audit/test_run.py",
        "audit/test_evidence.py",
        "audit/shortcuts/test_shortcuts.py",
    ],
    **{
        f"fastgan/audit/report/{part}.py": ["audit/report"]
        for part in ("record", "page", "cards", "montage")
    },
    "fastgan/audit/translation/tolerance.py": ["audit/test_either_side.py", "audit/translation"],
}
CPP = {
    "core/norm_act.h": ["ops/test_norm_act.py", "ops/test_norm_act_native.py"],
    "cpu/norm_act/": ["ops/test_norm_act.py", "ops/test_norm_act_native.py"],
    "cpu/bias_act/": ["ops/test_bias_act.py"],
    "cpu/conv3d/packed/": ["ops/test_conv3d_packed.py"],
    "cpu/conv3d/single/": ["ops/test_conv3d_single.py"],
}
# Wall time a process may take, in limits of CPU time, before it is started again.
IDLE = 10
# Compiling takes longest and sees no more of a formula than eager mode does.
LEFT_OUT = "not compile and not machine_code and not inductor"


class Extension(importlib.abc.MetaPathFinder):
    """Finds `fastgan._C` in another build."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "fastgan._C":
            return None
        loader = importlib.machinery.ExtensionFileLoader(name, str(self.path))
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def mutants() -> list[dict[str, Any]]:
    """Every mutant with its tests.

    Raises:
        FileNotFoundError: a test of the tables is not there; pytest would end with an error, which
            would count as a mutant that was noticed.
    """
    found: list[dict[str, Any]] = []
    for name, tests in (PYTHON | AUDIT).items():
        for index, text in enumerate(python_mutants.sites((ROOT / name).read_text())):
            found.append({"file": name, "index": index, "what": text, "tests": tests})
    for index, (name, text) in enumerate(cpp_mutants.sites()):
        tests = next(tests for folder, tests in CPP.items() if name.startswith(folder))
        found.append({"file": f"csrc/{name}", "index": index, "what": text, "tests": tests})
    for test in {test for mutant in found for test in mutant["tests"]}:
        if not (ROOT / "tests" / test).exists():
            raise FileNotFoundError(f"tests/{test}: no such test; mend the tables of {__file__}")
    return found


def kind(mutant: dict[str, Any]) -> str:
    """ "cpp", "audit" or "python", the operators."""
    if mutant["file"].startswith("csrc"):
        return "cpp"
    return "audit" if mutant["file"] in AUDIT else "python"


def sample(found: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Half from Python and half from C++, where there are so many."""
    draw = random.Random(seed)
    cpp = [m for m in found if kind(m) == "cpp"]
    python = [m for m in found if kind(m) == "python"]
    share = min(len(cpp), count // 2)
    chosen = draw.sample(cpp, share) + draw.sample(python, min(len(python), count - share))
    draw.shuffle(chosen)
    return chosen


def run(mutant: dict[str, Any], extension: Path | None, tests: list[str]) -> int:
    """In a child process: pytest's exit code, with the mutant in place."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if extension is not None:
        sys.meta_path.insert(0, Extension(extension))
    if mutant["file"].startswith("csrc"):
        os.environ["FASTGAN_MUTANT"] = str(mutant["index"])
    else:
        module = mutant["file"].removesuffix(".py").replace("/", ".")
        python_mutants.install(module, ROOT / mutant["file"], mutant["index"])
    paths = [str(ROOT / "tests" / name) for name in tests]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-k", LEFT_OUT]
    return int(pytest.main([*options, *paths]))


def started(mutant: dict[str, Any], extension: Path | None, limit: int) -> int:
    """The process that tries a mutant."""
    child = os.fork()
    if child == 0:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        # CPU time, so that a busy machine changes no verdict
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        # a fork may inherit a lock that nobody holds any more, and waits for it without using any
        signal.alarm(IDLE * limit)
        os._exit(run(mutant, extension, mutant["tests"]))
    return child


def verdict(status: int) -> str:
    """ "killed", "crashed", "timed out" or "survived", from a wait status."""
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL, signal.SIGALRM)
        return "timed out" if late else "crashed"
    return "survived" if os.WEXITSTATUS(status) == 0 else "killed"


def stuck(status: int) -> bool:
    """Whether a process was ended for using no CPU time, which may tell nothing of its mutant."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM


def judged(
    chosen: list[dict[str, Any]], extension: Path | None, limit: int, jobs: int
) -> Iterator[tuple[dict[str, Any], str]]:
    """Every mutant with its verdict, as they come."""
    waiting, running = list(chosen), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop(0)
            running[started(mutant, extension, limit)] = mutant
        child, status = os.wait()
        mutant = running.pop(child)
        if stuck(status) and not mutant.get("again"):
            mutant["again"] = True
            waiting.append(mutant)
        else:
            yield mutant, verdict(status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=110)
    parser.add_argument("--audit", type=int, default=150, help="mutants of the audit beside them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=int, default=90, help="seconds of CPU time a mutant may take"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=("python", "cpp", "audit"), help="leave out the others")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "mutation.json")
    args = parser.parse_args()
    with_cpp = args.only in (None, "cpp")
    extension = cpp_mutants.build(ROOT / "build" / "mutation") if with_cpp else None
    every = mutants()
    chosen = sample(every, args.count, args.seed)
    of_audit = [m for m in every if kind(m) == "audit"]
    draw = random.Random(args.seed)
    chosen += draw.sample(of_audit, min(len(of_audit), args.audit))
    if args.only:
        chosen = [m for m in chosen if kind(m) == args.only]
    results: list[dict[str, Any]] = []
    for mutant, found in judged(chosen, extension, args.limit, args.jobs):
        entry = {key: mutant[key] for key in ("file", "index", "what")} | {"verdict": found}
        results.append(entry)
        print(f"{len(results):4} {found:9} {mutant['file']}:{mutant['what']}", flush=True)
        report = {"seed": args.seed, "torch": torch.__version__, "mutants": results}
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    survivors = [r for r in results if r["verdict"] == "survived"]
    share = 1 - len(survivors) / len(results)
    print(f"\n{len(results)} mutants, {100 * share:.1f} % noticed; survivors:")
    for r in survivors:
        print(f"  {r['file']}:{r['what']}")
    return int(share < 0.95)


if __name__ == "__main__":
    sys.exit(main())
