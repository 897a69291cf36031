"""Classic augmentation of real volumes: every draw comes from one generator and is reported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.errors import ConfigError

__all__ = ["KINDS", "Strength", "apply", "augment", "draw"]

KINDS = ("flip", "rotate", "scale", "intensity", "elastic")
KNOTS = 5  # control points per axis of the elastic field: bends organs, does not tear them


@dataclass(frozen=True)
class Strength:
    """How far each kind may go.

    Attributes:
        flip: probability of mirroring left and right, the one mirror image anatomy nearly has.
        rotate: degrees about each axis, uniform in +-.
        scale: log of the zoom, uniform in +-.
        shift: added intensity, uniform in +-, in units of the [-1, 1] range.
        contrast: log of the factor on intensity + 1, uniform in +-.
        elastic: voxels a control point moves, standard deviation.
    """

    flip: float = 0.5
    rotate: float = 10.0
    scale: float = 0.1
    shift: float = 0.05
    contrast: float = 0.1
    elastic: float = 1.0


def draw(
    kinds: Sequence[str], count: int, rng: np.random.Generator, strength: Strength | None = None
) -> list[dict[str, Any]]:
    """Parameters of `count` augmentations, one JSON-able dict each.

    Raises:
        ConfigError: an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"data.classic: {kind!r} is not one of {', '.join(KINDS)}")
    most = strength or Strength()
    drawn: list[dict[str, Any]] = []
    for _ in range(count):
        one: dict[str, Any] = {}
        if "flip" in kinds:
            one["flip"] = bool(rng.random() < most.flip)
        if "rotate" in kinds:
            one["rotate"] = [float(a) for a in rng.uniform(-1.0, 1.0, 3) * most.rotate]
        if "scale" in kinds:
            one["scale"] = float(math.exp(rng.uniform(-1.0, 1.0) * most.scale))
        if "intensity" in kinds:
            one["shift"] = float(rng.uniform(-1.0, 1.0) * most.shift)
            one["contrast"] = float(math.exp(rng.uniform(-1.0, 1.0) * most.contrast))
        if "elastic" in kinds:
            field = rng.standard_normal((3, KNOTS, KNOTS, KNOTS)) * most.elastic
            one["elastic"] = field.astype(np.float32).tolist()
        drawn.append(one)
    return drawn


def apply(
    volumes: Tensor,
    parameters: Sequence[dict[str, Any]],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Augment volumes by given parameters; rotation, zoom and bending are one trilinear sampling.

    A flip alone moves voxels and interpolates nothing. What comes from outside the grid is the
    edge voxel. Intensity acts on value + 1, so that background at -1 keeps its contrast, and the
    result is clipped to [-1, 1].

    Args:
        volumes: [B, C, D, H, W] float32 in [-1, 1], axes right, front, up.
        parameters: B dicts as `draw` gives.
        spacing: mm along D, H, W, so that rotation does not shear anisotropic voxels.

    Returns:
        [B, C, D, H, W] float32, a new tensor.
    """
    if volumes.dim() != 5 or len(parameters) != volumes.shape[0]:
        raise ConfigError(
            f"augment: volumes must be [B, C, D, H, W] with B = {len(parameters)} parameters, "
            f"got {list(volumes.shape)}"
        )
    out = [_one(volume, p, spacing) for volume, p in zip(volumes, parameters, strict=True)]
    return torch.stack(out) if out else volumes.clone()


def augment(
    volumes: Tensor,
    kinds: Sequence[str],
    rng: np.random.Generator,
    strength: Strength | None = None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[Tensor, list[dict[str, Any]]]:
    """`draw` and `apply`: the augmented volumes and what was done to each."""
    parameters = draw(kinds, volumes.shape[0], rng, strength)
    return apply(volumes, parameters, spacing), parameters


def _one(volume: Tensor, one: dict[str, Any], spacing: Sequence[float]) -> Tensor:
    if one.get("flip"):
        volume = volume.flip(1)
    angles, zoom = one.get("rotate", [0.0, 0.0, 0.0]), one.get("scale", 1.0)
    elastic = one.get("elastic")
    moves = any(angles) or zoom != 1.0 or (elastic is not None and np.any(elastic))
    if moves:
        volume = F.grid_sample(
            volume[None],
            _grid(volume.shape[1:], angles, zoom, elastic, spacing),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )[0]
    if "contrast" in one and (one["contrast"] != 1.0 or one["shift"] != 0.0):
        volume = ((volume + 1.0) * one["contrast"] + (one["shift"] - 1.0)).clamp(-1.0, 1.0)
    return volume


def _grid(
    shape: Sequence[int],
    angles: Sequence[float],
    zoom: float,
    elastic: Any,
    spacing: Sequence[float],
) -> Tensor:
    """[1, D, H, W, 3] sampling positions, in grid_sample's order (W, H, D), -1 to 1."""
    axes = [torch.linspace(-0.5, 0.5, n) * (n - 1) * s for n, s in zip(shape, spacing, strict=True)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # mm from the centre
    # Output positions look up input positions, hence the inverse: turned back and shrunk.
    matrix = torch.from_numpy(_rotation(angles).T / zoom).float()
    places = places @ matrix.T
    steps = torch.tensor([float(s) for s in spacing])
    if elastic is not None:
        knots = torch.as_tensor(elastic, dtype=torch.float32)[None]
        field = F.interpolate(knots, size=tuple(shape), mode="trilinear", align_corners=True)[0]
        places = places + field.movedim(0, -1) * steps
    half = torch.tensor([max(n - 1, 1) / 2.0 for n in shape]) * steps
    return (places / half).flip(-1)[None]


def _rotation(degrees: Sequence[float]) -> np.ndarray:
    result = np.eye(3)
    for axis, angle in enumerate(degrees):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.eye(3)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        turn[i, i] = turn[j, j] = c
        turn[i, j], turn[j, i] = -s, s
        result = turn @ result
    return result
