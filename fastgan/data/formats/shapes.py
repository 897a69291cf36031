"""What shapes and affines a volume can have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastgan.data.geometry import spacing_of
from fastgan.errors import BadFile, CorruptFile, ResourceLimit

__all__ = [
    "MAX_VOXELS",
    "SPACING_RANGE",
    "affine_fault",
    "check_affine",
    "check_extents",
    "choose_volume",
]

MAX_VOXELS = 1 << 30  # 4 GiB as float32
MAX_EXTENT = 4096  # no scanner's volume is longer; surfaces and tables are
SPACING_RANGE = (1e-3, 100.0)  # mm; beyond it a header is wrong, not a scanner unusual


def check_extents(shape: Sequence[int], where: str) -> tuple[int, int, int]:
    """The three extents of a volume.

    Raises:
        CorruptFile: an extent below 1.
        ResourceLimit: more than MAX_VOXELS voxels.
        BadFile: not three, one slice alone, or so long that it is a surface or a table.
    """
    shown = " x ".join(map(str, shape))
    if any(extent < 1 for extent in shape):
        raise CorruptFile(f"{where}: {shown} has an extent below 1")
    if len(shape) != 3:
        raise BadFile(
            f"{where}: {len(shape)}-D ({shown}) where a 3-D volume is meant; leave it out"
        )
    if math.prod(shape) > MAX_VOXELS:
        raise ResourceLimit(f"{where}: {shown} is more than {MAX_VOXELS} voxels")
    if max(shape) > MAX_EXTENT:
        raise BadFile(
            f"{where}: {shown}: values on a surface or a table, not a 3-D volume; leave it out"
        )
    if min(shape) == 1:
        raise BadFile(f"{where}: {shown}: one slice where a 3-D volume is meant; leave it out")
    return shape[0], shape[1], shape[2]


def choose_volume(volumes: int, wanted: int | None, where: str) -> int:
    """Position of the volume to read of a file that holds several.

    Raises:
        BadFile: several and none chosen, or one that is not there.
    """
    if wanted is None:
        if volumes == 1:
            return 0
        raise BadFile(
            f"{where}: 4-D, {volumes} volumes, where a 3-D volume is meant; choose one by "
            f"--volume 0 to {volumes - 1} (in a manifest by file#0), or take each by --volume each"
        )
    if not 0 <= wanted < volumes:
        raise BadFile(f"{where}: volume {wanted} is not there; 0 to {volumes - 1} are")
    return wanted


def affine_fault(affine: NDArray[np.float64]) -> str | None:
    """What makes a [4, 4] affine useless, or None."""
    if affine.shape != (4, 4):
        return f"[4, 4] is meant, got {list(affine.shape)}"
    if not np.isfinite(affine).all() or np.abs(affine).max() > 1e6:
        return "not finite, or beyond a kilometre"
    sizes = np.array(spacing_of(affine))
    low, high = SPACING_RANGE
    volume = abs(float(np.linalg.det(affine[:3, :3])))
    if volume < 1e-2 * sizes.prod() or not ((sizes >= low) & (sizes <= high)).all():
        return f"singular, or voxels outside {low} to {high} mm"
    return None


def check_affine(affine: NDArray[np.float64], where: str) -> tuple[str, ...]:
    """Warnings of a [4, 4] affine in mm.

    Raises:
        CorruptFile: it is not finite, singular or of impossible voxel sizes.
    """
    fault = affine_fault(affine)
    if fault is not None:
        raise CorruptFile(f"{where}: {fault}")
    sizes = np.array(spacing_of(affine))
    if abs(float(np.linalg.det(affine[:3, :3]))) < 0.999 * sizes.prod():
        return ("sheared: axes are not at right angles",)
    return ()
