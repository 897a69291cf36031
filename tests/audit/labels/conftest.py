"""Phantoms whose labels are easily read."""

from __future__ import annotations

from fastgan.audit.phantoms.volumes import Lesion, Recipe

UNIT = (1.5, 1.5, 1.5)


# Smooth small against spiculated larger lesions: a network of a few steps tells them apart.
EASY = Recipe(
    size=16,
    extent=24.0,
    lesions=(Lesion(radius=2.0, spread=0.1), Lesion(radius=3.2, spread=0.1, spiculation=0.6)),
)
