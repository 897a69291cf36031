"""Training: `fit` runs any variant of `fastgan.gans` on any data set, and resumes it exactly."""

from __future__ import annotations

from fastgan.train import checkpoint
from fastgan.train.build import describe
from fastgan.train.fit import fit
from fastgan.train.load import load_averages, load_generator, load_translator
from fastgan.train.run_folder import RunFolder

__all__ = [
    "RunFolder",
    "checkpoint",
    "describe",
    "fit",
    "load_averages",
    "load_generator",
    "load_translator",
]
