"""Eight small volumes, and settings of a run that trains on them in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgan.data import save_volume

SMALL: dict[str, Any] = {
    "latent_dim": 2,
    "generator_channels": (4, 4),
    "critic_channels": (4, 4),
    "critic_steps": 1,
}
FIT: dict[str, Any] = {"steps": 1, "batch_size": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight CT volumes of 2 mm, of two classes in folders of their own."""
    folder, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for i in range(8):
        values = rng.uniform(-1000.0, 400.0, (8, 8, 8)).astype(np.float32)
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        save_volume(folder / "ab"[i % 2] / f"v{i}.nii.gz", values, np.diag([2.0, 2, 2, 1]))
    return folder
