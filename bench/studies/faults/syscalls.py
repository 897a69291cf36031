"""System calls of a resumed training that fail, one at a time, by strace's injection."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

from bench.studies.faults.children import Child, outcome_of
from bench.studies.faults.stage import Stage, fresh, state_of
from fastgan.errors import FastganError
from fastgan.train import checkpoint

ERRORS = {
    "openat": ("ENOSPC", "EACCES", "EMFILE", "ENFILE", "EIO", "ENOENT", "EROFS"),
    "read": ("EIO",),
    "pread64": ("EIO",),
    "write": ("ENOSPC", "EIO", "EDQUOT"),
    "pwrite64": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "rename": ("EIO", "ENOSPC", "EACCES"),
    "link": ("EIO", "ENOSPC", "EPERM"),
    "unlink": ("EIO", "EACCES"),
    "unlinkat": ("EIO", "EACCES"),
    "rmdir": ("EIO", "EACCES"),
    "mkdir": ("ENOSPC", "EACCES", "EIO"),
    "getdents64": ("EIO",),
    "newfstatat": ("EIO", "EACCES", "ENOENT"),
    "fstat": ("EIO",),
    "statfs": ("EIO",),
    "flock": ("EIO", "ENOLCK"),
    "ftruncate": ("EIO", "EACCES"),
    "lseek": ("EIO",),
}
BEFORE, AFTER = 2, 4


def available() -> bool:
    """Whether strace is there and may trace a process of ours."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True)
    return done.returncode == 0


class Syscalls:
    """A run of two steps that goes on to four while one system call fails or kills it.

    Args:
        stage: games and data.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.run = stage.train("gan", stage.place / "before", BEFORE)
        whole = fresh(self.run, stage.place / "unharmed")
        stage.train("gan", whole, AFTER, resume=whole)  # loads what every child then has
        self.wanted = state_of(whole)
        log = stage.place / "strace.log"
        self._traced(fresh(self.run, stage.place / "counted"), ["-o", str(log)], killed=False)
        names = re.findall(r"^(?:\d+ +)?(\w+)\(", log.read_text(errors="replace"), re.MULTILINE)
        self.calls = {name: n for name, n in Counter(names).items() if name in ERRORS}

    def trial(self, number: int) -> Counter[str]:
        """One fault."""
        rng = random.Random(number)
        call = rng.choice([*self.calls])
        kills = rng.random() < 0.2
        error = "signal=KILL" if kills else f"error={rng.choice(ERRORS[call])}"
        # A disk that is full stays full, now and then.
        when = f"{rng.randint(1, self.calls[call])}{'+' if rng.random() < 0.15 else ''}"
        run = fresh(self.run, self.stage.place / "faulty")
        inject = f"inject={call}:{error}:when={when}"
        ended = self._traced(run, ["-o", "/dev/null", "-e", inject], killed=kills)
        found = Counter({f"{ended.kind}": 1, "faults": 1, f"at {call}": 1})
        found["hangs"] += ended.kind == "hang"
        found["untyped faults"] += ended.kind in ("untyped", "crash")
        found["lost"] += not _kept(run)
        last = outcome_of(lambda: self.stage.train("gan", run, AFTER, resume=run))
        good = last.kind == "done" and state_of(run) == self.wanted
        found["other bits"] += not good
        if ended.kind in ("untyped", "crash", "hang") or not good:
            told = f"{inject}: {ended.kind}: {ended.text[:300]} / {last.kind}: {last.text[:200]}"
            found[f"NOTE {told}"] += 1
        return found

    def _traced(self, run: Path, options: list[str], *, killed: bool):
        child = Child(lambda: self.stage.train("gan", run, AFTER, resume=run), gate=True)
        command = ["strace", "-f", "-q", *options, "-p", str(child.pid)]
        tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _attached(child.pid)
        child.go()
        ended = child.outcome(120.0, killed=killed)
        tracer.wait(30)
        return ended


def _attached(pid: int) -> None:
    for _ in range(2000):
        status = Path(f"/proc/{pid}/status").read_text()
        if "TracerPid:\t0" not in status:
            return
        time.sleep(0.005)
    raise RuntimeError("strace cannot attach")


def _kept(run: Path) -> bool:
    try:
        return checkpoint.newest(run).step >= BEFORE
    except FastganError:
        return False
