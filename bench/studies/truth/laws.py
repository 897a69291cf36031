"""Three laws of patients: random fields, nodules in lung, patches of a head.

A law draws who patients are, then scans of them. What it draws is in units of its own, before any
window; patients are independent, so that fresh ones are what a perfect generator would draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from bench.studies.truth import sources
from bench.studies.truth.volumes import (
    axis_turns,
    bent,
    blobs,
    fields,
    grid,
    resampled,
    turns,
)
from fastgan.arrays import Column, Floats, Integers

__all__ = ["FAMILIES", "Head", "Law", "Lung", "People", "RandomFields", "law_of"]

People = Mapping[str, Column]
"""What patients are, one row each; always `label`, and `burden`, the size of the lesion."""


class Law(Protocol):
    """How patients look."""

    @property
    def modality(self) -> str:
        """As of `Evidence`."""

    @property
    def window(self) -> tuple[float, float]:
        """What becomes -1 and 1 under a fixed window."""

    @property
    def noise(self) -> float:
        """Deviation of the scanner's noise, in units of the law."""

    def people(self, labels: Integers, rng: np.random.Generator, clarity: float = 1.0) -> People:
        """Fresh patients of these classes; clarity moves the classes apart (1: as they are)."""

    def scans(self, people: People, owner: Integers, rng: np.random.Generator) -> Floats:
        """[N, S, S, S] a scan of each patient in `owner`."""


def _apart(
    labels: Integers,
    means: tuple[float, float],
    spread: float,
    clarity: float,
    rng: np.random.Generator,
) -> Floats:
    """A trait [P] of the two classes, never below a fifth of the smaller mean."""
    middle, half = (means[0] + means[1]) / 2, (means[1] - means[0]) / 2
    drawn = middle + clarity * half * (2 * labels - 1) + spread * rng.standard_normal(len(labels))
    out: Floats = np.maximum(drawn, min(means) / 5)
    return out


@dataclass(frozen=True)
class RandomFields:
    """A body of power-law texture in air; a lesion in it, rougher, larger, brighter in class 1."""

    size: int
    exponent: float = 2.5
    modality: str = "mr"
    window: tuple[float, float] = (0.0, 2.2)
    noise: float = 0.04

    def people(self, labels: Integers, rng: np.random.Generator, clarity: float = 1.0) -> People:
        count, size = len(labels), self.size
        radius = _apart(labels, (0.115, 0.16), 0.022, clarity, rng) * size
        return {
            "label": np.asarray(labels),
            "burden": radius,
            "contrast": _apart(labels, (0.5, 0.75), 0.15, clarity, rng),
            "roughness": _apart(labels, (0.1, 0.3), 0.05, clarity, rng),
            "place": 0.07 * size * rng.standard_normal((count, 3)),
            "axes": size * (0.4 + 0.03 * rng.standard_normal((count, 3))),
            "middle": 0.02 * size * rng.standard_normal((count, 3)),
            "texture": fields(count, size, self.exponent, rng),
            "surface": fields(count, size, 4.0, rng),
        }

    def scans(self, people: People, owner: Integers, rng: np.random.Generator) -> Floats:
        own = {name: trait[owner] for name, trait in people.items()}
        count, size = len(owner), self.size
        moved = own["middle"] + 0.01 * size * rng.standard_normal((count, 3))
        offset = grid(size)[None] - moved[:, :, None, None, None]
        reach = np.sqrt(np.square(offset / own["axes"][:, :, None, None, None]).sum(axis=1))
        # One voxel of edge.
        inside = 1 / (1 + np.exp(np.clip((reach - 1) * 0.4 * size / 0.5, -30, 30)))
        fresh = fields(count, size, self.exponent, rng)
        texture = np.sqrt(0.85) * own["texture"] + np.sqrt(0.15) * fresh
        lesion = blobs(size, own["place"] + moved, own["burden"], own["roughness"], own["surface"])
        tissue = 1.0 + 0.15 * texture + own["contrast"][:, None, None, None] * lesion
        noise = self.noise * rng.standard_normal(tissue.shape)
        out: Floats = np.abs(inside * tissue + noise).astype(np.float32)
        return out


@dataclass(frozen=True)
class Lung:
    """Bundled nodules, turned, zoomed and bent, blended into lung of one chest CT, in HU.

    The lung is of another place in another pose, zoomed and bent, for each patient.

    Where the CT is not at hand: coloured noise of its mean, deviation and spectrum.
    """

    size: int
    modality: str = "ct"
    window: tuple[float, float] = (-1000.0, 400.0)
    noise: float = 25.0
    ct: bool = True

    @cached_property
    def _nodules(self) -> tuple[Floats, Integers]:
        return sources.nodules()

    @cached_property
    def _lung(self) -> sources.Chest | None:
        return sources.chest() if self.ct and sources.CT.is_file() else None

    def people(self, labels: Integers, rng: np.random.Generator, clarity: float = 1.0) -> People:
        count = len(labels)
        masks, classes = self._nodules
        which = np.empty(count, np.int64)
        for k in (0, 1):
            which[labels == k] = rng.choice(np.flatnonzero(classes == k), int((labels == k).sum()))
        zoom = np.exp(0.08 * rng.standard_normal(count)) * clarity ** (labels - 0.5)
        own = {
            "label": np.asarray(labels),
            "nodule": which,
            "zoom": zoom,
            "burden": masks[which].sum(axis=(1, 2, 3)) * zoom**3,
            "turn": axis_turns(count, rng) @ turns(count, 12.0, rng),
            "level": 60.0 * rng.standard_normal(count),
            "place": 1.2 * rng.standard_normal((count, 3)),
            "bend": bent(count, 32, 0.7, rng),
        }
        if self._lung is None:
            own["texture"] = fields(count, self.size, sources.LUNG_EXPONENT, rng)
        else:
            # It is one chest: unless each patient's is zoomed and bent, two whose places lie a few
            # millimetres apart are near-copies of each other.
            own["centre"] = self._lung.centres(count, rng)
            zoomed = np.exp(0.1 * rng.standard_normal((count, 1, 1)))
            own["pose"] = axis_turns(count, rng) @ turns(count, 20.0, rng) * zoomed
            own["breath"] = bent(count, 24, 3.0, rng)
        return own

    def scans(self, people: People, owner: Integers, rng: np.random.Generator) -> Floats:
        own = {name: trait[owner] for name, trait in people.items()}
        count, size = len(owner), self.size
        shift = own["place"] + 0.3 * rng.standard_normal((count, 3))
        matrix = own["turn"] / own["zoom"][:, None, None]
        masks = self._nodules[0][own["nodule"]]
        form = resampled(masks, matrix, (matrix @ shift[..., None])[..., 0], own["bend"], fill=0.0)
        form = _fitted(form, size)
        if self._lung is None:
            fresh = fields(count, size, sources.LUNG_EXPONENT, rng)
            texture = np.sqrt(0.85) * own["texture"] + np.sqrt(0.15) * fresh
            air = sources.LUNG_MEAN + sources.LUNG_DEVIATION * texture
        else:
            centre = own["centre"] + 0.7 * rng.standard_normal((count, 3))
            air = _fitted(self._lung.cubes(centre, own["pose"], own["breath"], _steps(size)), size)
        tissue = own["level"][:, None, None, None] + 0.1 * (air - sources.LUNG_MEAN)
        noise = self.noise * rng.standard_normal(air.shape)
        out: Floats = (air + form * (tissue - air) + noise).astype(np.float32)
        return out


@dataclass(frozen=True)
class Head:
    """Patches of the T1 template at eight places, deformed per patient, with a bright lesion."""

    size: int
    modality: str = "mr"
    window: tuple[float, float] = (0.0, 1.8)
    noise: float = 0.03
    path: Path = sources.HEAD

    @cached_property
    def _template(self) -> Floats:
        return sources.head(self.path)

    def people(self, labels: Integers, rng: np.random.Generator, clarity: float = 1.0) -> People:
        count, size = len(labels), self.size
        place = rng.integers(len(sources.PLACES), size=count)
        linear = turns(count, 8.0, rng) * np.exp(0.06 * rng.standard_normal((count, 1, 1)))
        return {
            "label": np.asarray(labels),
            "burden": _apart(labels, (0.09, 0.135), 0.02, clarity, rng) * size,
            "contrast": _apart(labels, (0.45, 0.7), 0.14, clarity, rng),
            "roughness": _apart(labels, (0.1, 0.3), 0.05, clarity, rng),
            "surface": fields(count, size, 4.0, rng),
            "where": 0.07 * size * rng.standard_normal((count, 3)),
            "centre": np.array(sources.PLACES)[place] + 4.0 * rng.standard_normal((count, 3)),
            "linear": linear,
            "bend": bent(count, 24, 2.5, rng),
            "bias": bent(count, size, 0.1, rng, waves=2.0)[:, 0],
        }

    def scans(self, people: People, owner: Integers, rng: np.random.Generator) -> Floats:
        own = {name: trait[owner] for name, trait in people.items()}
        count, size = len(owner), self.size
        centre = own["centre"] + 0.4 * rng.standard_normal((count, 3))
        cubes = sources.cubes(self._template, centre, own["linear"], own["bend"], _steps(size))
        tissue = _fitted(cubes, size)
        lesion = blobs(size, own["where"], own["burden"], own["roughness"], own["surface"])
        bright = tissue + own["contrast"][:, None, None, None] * lesion
        bias = np.exp(own["bias"] + bent(count, size, 0.03, rng, waves=2.0)[:, 0])
        noise = self.noise * rng.standard_normal(tissue.shape)
        out: Floats = np.abs(bright * bias + noise).astype(np.float32)
        return out


def _steps(size: int) -> int:
    """Voxels that a cube is read at before it is averaged: 32 or 48 along each axis."""
    return 48 if 48 % size == 0 and size > 16 else 32


def _fitted(volumes: Floats, size: int) -> Floats:
    """Cubes averaged down to S voxels."""
    if volumes.shape[1] == size:
        return volumes
    batch = torch.from_numpy(np.ascontiguousarray(volumes))[:, None]
    out: Floats = F.adaptive_avg_pool3d(batch, (size,) * 3)[:, 0].numpy()
    return out


FAMILIES: dict[str, Callable[[int], Law]] = {
    "fields": RandomFields,
    "lung": Lung,
    "head": Head,
}
_KEPT: dict[tuple[str, int], Law] = {}


def law_of(family: str, size: int) -> Law:
    """The law of a family; what it read from disk is kept."""
    if (family, size) not in _KEPT:
        _KEPT[family, size] = FAMILIES[family](size)
    return _KEPT[family, size]
