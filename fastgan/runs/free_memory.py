"""What a process could take of a machine's memory without pushing others out."""

from __future__ import annotations

import math
from pathlib import Path

from fastgan.errors import DeviceError

__all__ = ["free_memory"]


def free_memory(device: str) -> int:
    """Bytes that are free.

    Args:
        device: cpu (of the machine and of the container this runs in), or cuda (the current one).

    Raises:
        DeviceError: the system does not say.
    """
    if device == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        return int(free)
    try:
        facts = Path("/proc/meminfo").read_text()
        free = int(facts.partition("MemAvailable:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        raise DeviceError("memory: this system does not say what is free; give --memory") from None
    return int(min(free, _group_memory()))


def _group_memory() -> float:
    """What the control group of a container leaves; infinite where it sets no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        most = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        return math.inf if most == "max" else max(int(most) - used, 0)
    except (OSError, ValueError):
        return math.inf
