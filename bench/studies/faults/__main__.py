"""Puts faults into runs, files and calls, and counts what came of them.

    python -m bench.studies.faults --short              # minutes: some of everything
    python -m bench.studies.faults --minutes 60         # everything, by turns, so long
    python -m bench.studies.faults --only kills --minutes 5

Counts are added to those in bench/results/faults.json, and trials go on with the next seed: a study
that is stopped goes on where it stopped. After a change of the code under test the file begins
anew. What a fault showed is a note there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bench.studies.faults import calls, hostile, kills, sanitizers, syscalls, writers
from bench.studies.faults.corruption import Corruption
from bench.studies.faults.stage import Stage
from fastgan.durable import replace_file

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "bench" / "results" / "faults.json"
KINDS = ("kills", "syscalls", "corruption", "hostile", "writers", "calls", "sanitized")
SHARE = {"kills": 0.3, "syscalls": 0.25, "corruption": 0.2, "writers": 0.05, "calls": 0.1}
SHARE |= {"hostile": 0.0, "sanitized": 0.1}
SHORT = {"kills": 10, "syscalls": 12, "corruption": 60, "writers": 3, "calls": 4}
WATCHED = ("csrc", "fastgan")
SLICE = 1.5
"""Minutes that a kind has before the next is due."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="a fixed number of each")
    size.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fastgan-faults-") as place:
        study = Study(Path(place), chosen.out)
        if chosen.short:
            for kind in chosen.only:
                study.run(kind, count=SHORT.get(kind, 1))
        else:
            study.by_turns(chosen.only, 60.0 * chosen.minutes)
    print(json.dumps(study.totals(), indent=1))


class Study:
    """Counts of trials by kind, kept in a file after every turn.

    Args:
        place: an empty folder for what faults are put into.
        out: the file of results.
    """

    def __init__(self, place: Path, out: Path) -> None:
        torch.set_num_threads(1)  # as in its children, whose bits are compared with the parent's
        self.place, self.out = place, out
        self.stage = Stage(place / "stage")
        self.stage.place.mkdir()
        self.stage.make_scans()
        self.code = code_digest()
        self.counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self.next = dict.fromkeys(KINDS, 0)
        kept = json.loads(out.read_text()) if out.exists() else {}
        if kept.get("code") == self.code:
            self.next |= kept["next"]
            for kind, counts in kept["counts"].items():
                self.counts[kind].update(counts)
        self._ready: dict[str, Callable[[int], Counter[str]]] = {}

    def by_turns(self, kinds: Sequence[str], seconds: float) -> None:
        """Each kind by turns, for its share of the time."""
        start = time.monotonic()
        if "hostile" in kinds:
            self.run("hostile", count=1)
        kinds = [kind for kind in kinds if SHARE[kind]]
        if not kinds:
            return
        longest = max(SHARE[kind] for kind in kinds)
        while time.monotonic() - start < seconds:
            for kind in kinds:
                left = seconds - (time.monotonic() - start)
                self.run(kind, seconds=min(left, 60.0 * SLICE * SHARE[kind] / longest))

    def run(self, kind: str, *, count: int = 10**9, seconds: float = 1e9) -> None:
        """So many trials of a kind, or as many as the time allows, at least one."""
        trial = self._trial(kind, seconds)
        if trial is None:
            return
        start, done = time.monotonic(), 0
        while done < count and (not done or time.monotonic() - start < seconds):
            self.counts[kind].update(trial(self.next[kind]))
            self.next[kind] += 1
            done += 1
            if kind == "sanitized":
                break
        self._keep()
        print(f"{kind}: {done} in {time.monotonic() - start:.0f} s", flush=True)

    def totals(self) -> dict[str, dict[str, int]]:
        """What was counted, without notes."""
        return {
            kind: {key: n for key, n in sorted(counts.items()) if not key.startswith("NOTE")}
            for kind, counts in self.counts.items()
        }

    def _trial(self, kind: str, seconds: float) -> Callable[[int], Counter[str]] | None:
        if kind == "sanitized":
            minutes = min(seconds, 60.0) / 60.0
            return lambda _: sanitizers.sanitized(minutes, ROOT / "build")
        if kind == "syscalls" and not syscalls.available():
            print("syscalls: no strace that may trace; left out", flush=True)
            return None
        if kind not in self._ready:
            self._ready[kind] = {
                "kills": lambda: kills.Kills(self.stage).trial,
                "syscalls": lambda: syscalls.Syscalls(self.stage).trial,
                "corruption": lambda: Corruption(self.stage).batch,
                "writers": lambda: writers.Writers(self.stage).trial,
                "calls": lambda: calls.Calls().batch,
                "hostile": lambda: lambda _: hostile.Hostile(self.stage).all(),
            }[kind]()
        return self._ready[kind]

    def _keep(self) -> None:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "code": self.code,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            "python": platform.python_version(),
            "next": self.next,
            "counts": {kind: dict(sorted(counts.items())) for kind, counts in self.counts.items()},
        }
        replace_file(self.out, json.dumps(content, indent=1).encode() + b"\n")


def code_digest() -> str:
    """Of the code that faults are put into."""
    digest = hashlib.sha256()
    for folder in WATCHED:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".cpp", ".h"):
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    main()
