"""On what a run was made, as its env.json keeps it."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

import fastgan

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """Versions and hardware, without the machine's or the user's name."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "fastgan": fastgan.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "devices": devices,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "threads": torch.get_num_threads(),
    }
