"""Processes that train one GAN together, started by torchrun.

Each computes its rows of every batch; after the backward pass of a phase the gradients are averaged
in one message, so all take the same optimiser step. The first writes the run folder.
"""

from __future__ import annotations

from fastgan.train.ranks.alone import Ranks
from fastgan.train.ranks.launch import joined, launched
from fastgan.train.ranks.refusals import require_divisible, require_separable, spread_over

__all__ = ["Ranks", "joined", "launched", "require_divisible", "require_separable", "spread_over"]
