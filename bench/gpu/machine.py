"""What a figure depends on: device, driver, versions, clocks, commit; needs torch alone."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.gpu.clock import Row, Setting

ROOT = Path(__file__).resolve().parents[2]


def rows(setting: Setting) -> Iterator[Row]:
    """One row."""
    on_gpu = setting.device.type == "cuda"
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(setting.device) if on_gpu else "cpu",
        "driver": asked("driver_version") if on_gpu else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "triton": version("triton"),
        "commit": answer("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "changed": bool(answer("git", "-C", str(ROOT), "status", "--porcelain", "-uno")),
    }
    if on_gpu:
        facts = torch.cuda.get_device_properties(setting.device)
        found |= {
            "capability": f"{facts.major}.{facts.minor}",
            "multiprocessors": facts.multi_processor_count,
            "memory GiB": round(facts.total_memory / 2**30, 1),
            "clocks": asked("clocks.sm,clocks.mem,clocks.max.sm"),
        }
    yield found


def asked(query: str) -> str:
    """What nvidia-smi answers about the first GPU."""
    words = (f"--query-gpu={query}", "--format=csv,noheader")
    return answer("nvidia-smi", *words).split("\n")[0]


def answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
