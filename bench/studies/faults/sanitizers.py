"""The extension built so that address and undefined-behaviour sanitizers watch its calls."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

__all__ = ["sanitized"]


def sanitized(minutes: float, place: Path) -> Counter[str]:
    """The same calls of a build that address and undefined-behaviour sanitizers watch.

    Args:
        minutes: how long.
        place: for the build.
    """
    root = Path(__file__).parents[3]
    objects = place / "sanitized"
    objects.mkdir(exist_ok=True)
    target = objects / "_C.so"
    if not target.exists():
        _build(root, target)
    paths = [
        subprocess.check_output(["c++", f"-print-file-name={n}"], text=True).strip()
        for n in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    log = f"log_path={objects / 'report'}"
    environment = os.environ | {
        "LD_PRELOAD": " ".join(paths),
        "ASAN_OPTIONS": f"detect_leaks=0,allocator_may_return_null=1,abort_on_error=1,{log}",
        "UBSAN_OPTIONS": f"print_stacktrace=1,halt_on_error=1,abort_on_error=1,{log}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "bench.studies.faults.watched", str(target), str(minutes)]
    found: Counter[str] = Counter()
    done = subprocess.run(
        command,
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60 * minutes + 300,
    )
    if done.returncode:
        raise RuntimeError(f"the watched calls ended with {done.returncode}: {done.stderr[-800:]}")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found.update(json.loads(line))
    return found


def _build(root: Path, target: Path) -> None:
    """The CPU sources and bindings as setup.py has them, at -O1, for any x86-64, without CUDA."""
    import pybind11

    spec = importlib.util.spec_from_file_location("fastgan_setup", root / "setup.py")
    assert spec is not None and spec.loader is not None
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    setup.CXX_FLAGS[:] = [flag for flag in setup.CXX_FLAGS if flag != "-O3"] + ["-O1", "-g1"]
    cxx = "c++ -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all"
    isas = ["baseline"]
    header = setup.build_info_header("c++", isas, None, [], "sanitized", True)
    (target.parent / "build_info.h").write_text(header)
    includes = [sysconfig.get_path("include"), pybind11.get_include()]
    rules = setup.ninja_file(cxx, isas, True, None, [], includes, target.name)
    (target.parent / "build.ninja").write_text(rules)
    subprocess.run([setup.find_ninja(), "-j1", "-C", str(target.parent)], check=True)
    # The kernels are compiled for one instruction set; whichever is chosen, it is that one.
    listed = subprocess.check_output(["nm", "-u", str(target)], text=True)
    missing = re.findall(r"_ZN7fastgan3cpu(?:4avx2|6avx512)\S+", listed)
    same = [f"-Wl,--defsym={m}={re.sub('4avx2|6avx512', '8baseline', m)}" for m in missing]
    objects = re.findall(rf"^build {target.name}: link (.*)$", rules, re.MULTILINE)[0].split()
    link = [*cxx.split(), "-shared", "-fopenmp", "-Wl,--as-needed", *same, *objects]
    subprocess.run([*link, "-o", target.name], cwd=target.parent, check=True)
