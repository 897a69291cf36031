"""What a volume's picture is, whatever file holds it: one hash of its voxels and their grid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["COMMENT", "content_hash", "provenance_of"]

COMMENT = 6
"""NIfTI's registered extension code for text, which holds the provenance."""


def content_hash(array: np.ndarray, affine: np.ndarray) -> str:
    """SHA-256, hex, of a volume as `fastgan.data.read_volume` gives it.

    Packing, axis order on the disk and header text do not enter it; every voxel and the grid do.

    Args:
        array: [D, H, W] of numbers that float32 holds, in right-anterior-superior order.
        affine: [4, 4] voxel index to mm; what float32 keeps of it counts.
    """
    digest = hashlib.sha256(b"fastgan volume 1\n" + repr(tuple(map(int, array.shape))).encode())
    # Adding zero makes minus zero plus zero, which readers need not tell apart.
    digest.update((np.asarray(affine, "<f4")[:3] + np.float32(0.0)).tobytes())
    digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()


def provenance_of(extensions: Iterable[tuple[int, bytes]]) -> dict[str, Any]:
    """What the header extension of a volume says of its origin; {} where none of ours does.

    It is the word of whoever wrote the file.

    Args:
        extensions: of `Volume.source`.
    """
    for code, payload in extensions:
        if code != COMMENT:
            continue
        try:
            content = json.loads(payload.rstrip(b"\0"))
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict) and content.get("synthetic") is True:
            return content
    return {}
