"""What must be the same on all ranks, for them to train one network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import fastgan
from fastgan.config import Config
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.made_with import PLACES, facts_of, flat

__all__ = ["facts_of_rank"]

OWN = PLACES | {"data.cache_dir"}
"""Keys that say where a machine has its files."""


def facts_of_rank(
    config: Config, record: Mapping[str, Any], device: torch.device, found: Checkpoint | None
) -> dict[str, Any]:
    """JSON values by dotted key: versions, kind of device, settings, data and checkpoint."""
    return {
        "fastgan": fastgan.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device.type,
        "checkpoint": None if found is None else f"{found.path.name} {found.hash}",
        **{key: value for key, value in flat(config).items() if key not in OWN},
        **{f"data: {key}": value for key, value in facts_of(record).items()},
    }
