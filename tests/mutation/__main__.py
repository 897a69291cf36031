"""Runs a seeded sample of mutants against the tests of their file, and writes the table."""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  loaded once, before the forks
import pytest
import torch

from tests.mutation import cpp_mutants, python_mutants

ROOT = Path(__file__).resolve().parents[2]
# Tests that cover a file, those likeliest to notice first.
PYTHON = {
    "fastgan/ops/norm_act.py": ["test_norm_act.py", "test_norm_act_conv.py"],
    "fastgan/ops/bias_act.py": ["test_bias_act.py", "test_penalty_budget.py"],
    "fastgan/ops/gradient_penalty.py": ["test_gradient_penalty.py", "test_penalty_budget.py"],
    "fastgan/ops/registration.py": [
        "test_registration.py",
        "test_gradient_penalty.py",
        "test_penalty_budget.py",
    ],
    "fastgan/ops/conv3d_passes.py": [
        "test_conv3d.py",
        "test_conv3d_single.py",
        "test_conv3d_wgrad.py",
        "test_conv_transpose3d.py",
    ],
    "fastgan/ops/norm_act_conv_passes.py": ["test_norm_act_conv.py", "test_penalty_budget.py"],
}
CPP = {
    "norm_act": ["test_norm_act.py", "test_native.py"],
    "bias_act": ["test_bias_act.py"],
    "conv3d_wgrad": ["test_conv3d_wgrad.py"],
    "conv3d": ["test_conv3d_single.py"],
}
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


def mutants(with_cpp: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in PYTHON:
        for index, text in enumerate(python_mutants.sites((ROOT / name).read_text())):
            found.append({"file": name, "index": index, "what": text, "tests": PYTHON[name]})
    if with_cpp:
        for index, (name, text) in enumerate(cpp_mutants.sites()):
            stem = next(key for key in CPP if Path(name).stem.startswith(key))
            found.append({"file": f"csrc/{name}", "index": index, "what": text, "tests": CPP[stem]})
    return found


def sample(found: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Half from Python and half from C++, where there are so many."""
    draw = random.Random(seed)
    cpp = [m for m in found if m["file"].startswith("csrc")]
    python = [m for m in found if not m["file"].startswith("csrc")]
    share = min(len(cpp), count // 2)
    chosen = draw.sample(cpp, share) + draw.sample(python, min(len(python), count - share))
    draw.shuffle(chosen)
    return chosen


def run(mutant: dict[str, Any] | None, extension: Path | None, tests: list[str]) -> int:
    """In a child process: pytest's exit code, with the mutant in place."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if extension is not None:
        sys.meta_path.insert(0, Extension(extension))
    if mutant is not None and mutant["file"].startswith("csrc"):
        os.environ["FASTGAN_MUTANT"] = str(mutant["index"])
    elif mutant is not None:
        module = mutant["file"].removesuffix(".py").replace("/", ".")
        python_mutants.install(module, ROOT / mutant["file"], mutant["index"])
    paths = [str(ROOT / "tests" / "ops" / name) for name in tests]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-k", LEFT_OUT]
    return int(pytest.main([*options, *paths]))


def judged(
    mutant: dict[str, Any] | None, extension: Path | None, tests: list[str], limit: int
) -> str:
    """ "killed", "crashed", "timed out" or "survived"."""
    child = os.fork()
    if child == 0:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        # CPU time, so that a busy machine changes no verdict
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        os._exit(run(mutant, extension, tests))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        signals = (signal.SIGXCPU, signal.SIGKILL)
        return "timed out" if os.WTERMSIG(status) in signals else "crashed"
    return "survived" if os.WEXITSTATUS(status) == 0 else "killed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=110)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=int, default=90, help="seconds of CPU time a mutant may take"
    )
    parser.add_argument("--no-cpp", action="store_true", help="leave out the C++ mutants")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "mutation" / "result.json")
    args = parser.parse_args()
    extension = None if args.no_cpp else cpp_mutants.build(ROOT / "build" / "mutation")
    chosen = sample(mutants(not args.no_cpp), args.count, args.seed)
    results: list[dict[str, Any]] = []
    for mutant in chosen:
        start = time.monotonic()
        verdict = judged(mutant, extension, mutant["tests"], args.limit)
        entry = {key: mutant[key] for key in ("file", "index", "what")} | {"verdict": verdict}
        results.append(entry)
        print(f"{len(results):4} {verdict:9} {time.monotonic() - start:5.0f} s", end="  ")
        print(f"{mutant['file']}:{mutant['what']}", flush=True)
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
