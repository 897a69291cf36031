"""This leaf measures volumes: shape, surface, structure, patch statistics, descriptors."""

from __future__ import annotations

from fastgan.measures.patch_distance import patch_distance
from fastgan.measures.structure import Structure, structure_metrics

__all__ = ["Structure", "patch_distance", "structure_metrics"]
