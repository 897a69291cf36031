"""What a few real steps of a configuration cost, measured in a process of their own.

The child does what `fastgan train` does: the same networks, optimisers, loop and draws, a
checkpoint, a picture, a volume written. Its peak memory is therefore the training's own, and where
it crashes or memory runs out only the child is lost.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgan import errors
from fastgan.config import Config
from fastgan.errors import FastganError, ResourceLimit

__all__ = ["Measurement", "measure"]

PATIENCE = 20.0
"""Seconds of a first step after which no further ones are timed."""
TIMEOUT = 300.0
"""Seconds after which a child is ended: whatever it measures is too slow to be proposed."""
# As `fastgan train` sets it for itself; the child is no command line and gets it from outside.
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


@dataclass(frozen=True)
class Measurement:
    """What was measured of one configuration; seconds and bytes."""

    device: str
    """cpu or cuda:N."""
    steps: int
    """Steps timed, after the warm-up; 0: `step_seconds` is of the first step, cold."""
    step_seconds: float
    """A step of the generator with the critic's before it: the median."""
    critic_seconds: float
    """One update of the critic within it."""
    save_seconds: float
    """A checkpoint."""
    picture_seconds: float
    """A picture of samples."""
    generate_seconds: float
    """One volume generated and written; 0 where the run translates."""
    open_seconds: float
    """The data: all of an archive, or the largest file of a folder."""
    host_bytes: int
    """Peak of the process's resident memory."""
    device_bytes: int
    """Peak of tensors on a CUDA device, 0 on the CPU."""
    device_held: int
    """The same with what the allocator holds in reserve."""
    checkpoint_bytes: int
    picture_bytes: int
    written_bytes: int
    """One generated file."""
    stored_bytes: int
    """One prepared volume, the largest."""
    volumes: int
    """Volumes trained on, of both domains of a cyclegan."""
    heldout: int
    """Volumes held out, likewise."""
    prepared: bool
    """Whether the data are files that are prepared and kept in the cache."""
    cores: float
    """Cores that the steps had on average."""
    load: float
    """Of the machine before the measurement: processes that wanted to run, mean over a minute."""


def measure(
    config: Config, *, memory: int | None = None, patience: float = PATIENCE
) -> Measurement:
    """Measure a few steps of `config` in a child process.

    Args:
        config: as `fastgan train` would be given it.
        memory: bytes of host memory the child may take beyond what the program itself maps; None:
            no limit.
        patience: seconds of a first step after which no further ones are timed.

    Raises:
        ConfigError, BadFile and others: what the training itself would refuse, in its words.
        ResourceLimit: memory ran out, the child crashed, or a step takes minutes.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="fastgan-plan-") as folder:
        answer = Path(folder) / "answer.json"
        task = {
            "config": config.model_dump(mode="json"),
            "folder": folder,
            "memory": memory,
            "patience": patience,
            "answer": str(answer),
        }
        child = subprocess.Popen(
            # -P: in a clone the folder one stands in holds a fastgan that is not the installed one.
            [sys.executable, "-P", "-m", "fastgan.runs.probe_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | HEAP,
            text=True,
        )
        try:
            _, said = child.communicate(json.dumps(task), timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ResourceLimit(f"a step took longer than {TIMEOUT:.0f} s in a trial") from None
        finally:
            # Also where this process is interrupted: nothing goes on behind its back.
            if child.poll() is None:
                child.kill()
                child.wait()
        if not answer.exists():
            raise _crash(child.returncode, said)
        content = json.loads(answer.read_bytes())
    if "error" in content:
        raise _raised(content["error"], content["text"])
    return Measurement(**content, load=load)


def _crash(code: int, said: str) -> ResourceLimit:
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    if code == -9:
        last = ["the system ended it, as it does where memory runs out"]
    return ResourceLimit(f"a trial of a few steps ended with code {code}: {last[0]}")


def _raised(kind: str, text: str) -> FastganError:
    """The child's error, of its own type."""
    found: Any = getattr(errors, kind, ResourceLimit)
    error: FastganError = found(text)
    return error


FIELDS = tuple(field.name for field in dataclasses.fields(Measurement) if field.name != "load")
"""What the child answers."""
