"""A run whose translator is a function of voxels, and volumes for it."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor, nn

from fastgan.config import Config
from fastgan.train import checkpoint
from fastgan.train.made_with import facts_of, settings_of
from fastgan.train.run_folder import RunFolder

SHAPE, SPACING = (16, 16, 12), (1.0, 1.5, 2.0)
CT = {"modality": "ct", "low": -1000.0, "high": 1000.0, "method": "window"}
MR = {"modality": "mr", "low": 20.0, "high": 320.0, "method": "foreground percentiles 0.5 to 99.5"}
MR |= {"per_volume": True}
GEOMETRY = ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "dim")
GEOMETRY += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units")


class Map(nn.Module):
    """A translator that acts on each voxel."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.calls = function, []

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32 and tuple(x.shape[1:]) == (1, *SHAPE)
        assert x.min() >= -1.0 and x.max() <= 1.0
        self.calls.append(x.shape[0])
        return self.function(x)


def record(normalisation: dict) -> dict:
    return {
        "fingerprint": "f" * 64,
        "shape": list(SHAPE),
        "spacing": list(SPACING),
        "channels": 1,
        "classes": [],
        "prior": [],
        "normalisation": normalisation,
    }


def make_run(out: Path, data: dict) -> Path:
    folder = RunFolder.create(out, Config(name="cycle"), data)
    parts = {"ema.G_AB": {"w": torch.ones(2)}, "ema.G_BA": {"w": torch.zeros(2)}}
    identity = {"settings": settings_of(folder.config()), "data": facts_of(data)}
    for step in (3, 7):
        checkpoint.save(folder.path, step, parts, {}, identity)
    return folder.path


def body(shape, level: float = 40.0) -> np.ndarray:
    """A smooth ellipsoid of soft tissue with a denser core in air, HU."""
    axes = np.meshgrid(*[np.linspace(-1.0, 1.0, n) for n in shape], indexing="ij")
    radius = np.sqrt(sum((x / half) ** 2 for x, half in zip(axes, (0.8, 0.7, 0.75), strict=True)))
    inside = level + 60.0 * axes[0] + 30.0 * axes[1] - 40.0 * axes[2] + 300.0 * (radius < 0.3)
    return np.where(radius < 1.0, inside, -1000.0)


def affine_of(codes: str, spacing=SPACING, tilt: float = 0.0) -> np.ndarray:
    """Voxel axes that run along `codes`, `spacing` along right, front, head, turned by `tilt`."""
    affine = np.zeros((4, 4))
    for axis, code in enumerate(codes):
        world = next(w for w, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[world, axis] = spacing[world] * (1.0 if code in "RAS" else -1.0)
    c, s = np.cos(tilt), np.sin(tilt)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, -s], [0, s, c]]
    )
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:, 3] = (-31.4, 27.1, 8.25, 1.0)
    return affine


def save(path: Path, array: np.ndarray, affine: np.ndarray, *, qform=1, sform=1, kind=None) -> Path:
    image = (kind or nibabel.Nifti1Image)(array, affine)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    image.header["descrip"] = b"Doe^Jane"
    nibabel.save(image, path)
    return path


def same_geometry(before: Path, after: Path) -> None:
    a, b = nibabel.load(before), nibabel.load(after)
    assert a.shape == b.shape and type(a) is type(b)
    for field in GEOMETRY:
        assert a.header[field].tobytes() == b.header[field].tobytes(), field
    assert a.affine.tobytes() == b.affine.tobytes()
    assert nibabel.aff2axcodes(a.affine) == nibabel.aff2axcodes(b.affine)
