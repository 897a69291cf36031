"""Runs the checks of bench/gpu on this machine's GPU, the most valuable first.

    bench/first_light.sh [--phase 1|2] [--dry-run] [--out FOLDER] [--commit NAME]

A phase takes at most 400 or 330 seconds. Each check is a process of its own with a limit: what
hangs, crashes or runs out of memory costs that check alone. Every line that a check prints is
stamped with device, driver, versions and commit and is on the disk before the next one comes, in
first_light.jsonl under $OUT, --out, or bench/results/<device>/: what is cut off loses nothing that
was measured. `--dry-run` goes every path on the CPU with tiny sizes; no figure of it is worth
anything. This file needs the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LINES, LOG = "first_light.jsonl", "first_light.log"
# Less is not worth starting a process for that has to import torch.
LEAST_SECONDS = 5.0
# What a killed check may take to be gone; a driver can hold on to a process for ever.
PATIENCE = 5.0
TAIL = 30


class Check(NamedTuple):
    """A process: what Python is given, and the seconds it may take."""

    name: str
    words: tuple[str, ...]
    seconds: float
    dry: tuple[str, ...] | None = None  # instead of `words`, on the CPU


def own(name: str, seconds: float, *words: str, called: str | None = None) -> Check:
    """A module of this folder."""
    return Check(called or name, ("-m", "bench.gpu", name, *words), seconds)


SANITIZER = "bench/tools/sanitize.py"
# A line a test, so that the last one names what hangs.
PYTEST = ("-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider")
DEVICE_TESTS = ("-m", "gpu", "tests/ops", "tests/cuda/test_on_gpu.py")
BUILD = Check("build", ("bench/gpu/build.py",), 200, ("bench/gpu/build.py", "--dry-run"))
PHASES: dict[int, tuple[float, tuple[Check, ...]]] = {
    1: (
        400,
        (
            BUILD,
            own("certificates", 90, "--only", "native"),
            own("operators", 90, "--only", "native"),
            own("cudnn", 45),
            Check(
                "tests",
                (*PYTEST, "--maxfail=20", *DEVICE_TESTS),
                90,
                (*PYTEST, "--collect-only", *DEVICE_TESTS),
            ),
            own("first_use", 60),
        ),
    ),
    2: (
        330,
        (
            BUILD._replace(name="build again", seconds=150),
            own("critic", 110),
            own("training", 80),
            own("certificates", 90, "--only", "triton", called="certificates of Triton"),
            own("operators", 60, "--only", "triton", called="operators of Triton"),
            *(
                Check(f"sanitizer, {tool}", (SANITIZER, tool), 60, (SANITIZER, "--help"))
                for tool in ("memcheck", "racecheck", "initcheck")
            ),
            own("peers", 60),
        ),
    ),
}


class Record:
    """The lines of a run; each is on the disk when `add` returns."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.facts, self.begun = path, facts, time.monotonic()
        self._turn = threading.Lock()

    def add(self, check: str, event: str, **row: Any) -> None:
        """A line of a check, and the same in short on the terminal."""
        stamp = {"check": check, "event": event, "seconds": round(self.elapsed(), 2)}
        with self._turn:
            with open(self.path, "a") as file:
                file.write(json.dumps(stamp | row | self.facts) + "\n")
                file.flush()
                os.fsync(file.fileno())
            print(f"{stamp['seconds']:7.1f} {check}: {event} {_short(row)}".rstrip(), flush=True)

    def log(self, check: str, text: str) -> None:
        """What a check said beside its rows, whole."""
        with self._turn, open(self.path.with_name(LOG), "a") as file:
            file.write(f"{check}: {text}\n")

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.begun


def _short(row: dict[str, Any]) -> str:
    def text(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{key} {text(value)}" for key, value in row.items())[:400]


def run(checks: Iterable[Check], limit: float, record: Record) -> bool:
    """Run checks for at most `limit` seconds; whether all of them ended well."""
    end, well = time.monotonic() + limit, True
    for check in checks:
        seconds = min(check.seconds, end - time.monotonic() - PATIENCE)
        if seconds < min(LEAST_SECONDS, check.seconds):
            record.add(check.name, "left out", reason="the phase has no time left for it")
            well = False
            continue
        well = _run(check, seconds, record) and well
    return well


def _run(check: Check, seconds: float, record: Record) -> bool:
    record.add(check.name, "begin", limit=round(seconds, 1))
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *check.words],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(
        target=_read, args=(process.stdout, check.name, record, said), daemon=True
    )
    reader.start()
    cut = False
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        cut = True
    finally:
        # Also where this process is interrupted, and what the check itself has left running.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=PATIENCE)
    reader.join(timeout=PATIENCE)
    code = process.returncode
    took = round(time.monotonic() - start, 2)
    # A test run is told by its last line; of what went wrong, more is.
    last = said[-1:] if code == 0 else said[-TAIL:]
    record.add(check.name, "end", rc=-1 if code is None else code, cut=cut, took=took, said=last)
    return code == 0


def _read(stream: IO[str], name: str, record: Record, said: list[str]) -> None:
    """Every line of a check: a JSON object is a row, the rest is what it said."""
    for line in stream:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            record.add(name, "row", **{k: v for k, v in row.items() if k not in ("check", "event")})
        elif text := line.strip():
            record.log(name, text)
            said.append(text[:500])
            del said[:-TAIL]


def environment() -> dict[str, str]:
    """Of a check: nothing is tried behind its back, nothing interpreted, no output held back."""
    mine = {"PYTHONUNBUFFERED": "1", "FASTGAN_CERTIFY": "off", "TRITON_INTERPRET": "0"}
    return os.environ | mine


def facts(dry: bool, commit: str | None) -> dict[str, Any]:
    """What every line is stamped with: device, driver, versions and commit, from a child.

    Raises:
        SystemExit: no torch, or no GPU that it can use; no line is written.
    """
    words = ["-m", "bench.gpu", "machine", "--device", "cpu" if dry else "cuda"]
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=90,
        )
    except subprocess.TimeoutExpired:
        raise SystemExit("this machine's GPU does not answer within 90 s") from None
    if done.returncode:
        raise SystemExit(done.stderr.strip() or f"python {' '.join(words)} failed")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if commit is not None:
        found |= {"commit": commit, "changed": None}
    return found | {"dry": dry}


def place(out: Path | None, device: str) -> Path:
    """The folder of the results."""
    if out is not None:
        return out
    if os.environ.get("OUT"):
        return Path(os.environ["OUT"])
    return ROOT / "bench" / "results" / re.sub(r"\W+", "-", device.lower()).strip("-")


def main(arguments: list[str] | None = None) -> int:
    """0 if every check ended well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--phase", type=int, choices=sorted(PHASES), help="this one alone")
    parser.add_argument("--dry-run", action="store_true", help="every path, on the CPU")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--commit", help="what is measured, where there is no git to tell")
    options = parser.parse_args(arguments)
    dry: bool = options.dry_run
    stamp = facts(dry, options.commit)
    folder = place(options.out, stamp["device"]).resolve()
    record = Record(folder / LINES, stamp)
    well = True
    for number in [options.phase] if options.phase else sorted(PHASES):
        limit, checks = PHASES[number]
        well = run([_ready(check, dry, folder) for check in checks], limit, record) and well
    print(f"written: {record.path}")
    return 0 if well else 1


def _ready(check: Check, dry: bool, folder: Path) -> Check:
    words = check.words
    if words[:2] == ("-m", "bench.gpu"):
        where = ("--device", "cpu", "--quick") if dry else ("--device", "cuda")
        return check._replace(words=(*words, *where, "--out", str(folder)))
    return check._replace(words=check.dry or words) if dry else check


if __name__ == "__main__":
    sys.exit(main())
