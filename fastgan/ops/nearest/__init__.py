"""Exact nearest neighbours: of tensors, of targets prepared for many searches, of a file."""

from __future__ import annotations

from fastgan.ops.nearest.index import NearestIndex, Neighbours, Transform
from fastgan.ops.nearest.search import nearest
from fastgan.ops.nearest.stream import nearest_stream

__all__ = ["NearestIndex", "Neighbours", "Transform", "nearest", "nearest_stream"]
