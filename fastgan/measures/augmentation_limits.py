"""These are the limits of the differentiable augmentation of a critic, as in DiffAugment.

An audit that asks whether augmentation changes labels, or hides copies, goes as far.
"""

from __future__ import annotations

__all__ = ["BRIGHTNESS", "CONTRAST", "LARGEST_SHIFT"]

LARGEST_SHIFT = 1 / 8
"""Of each axis' length."""
CONTRAST = (0.8, 1.2)
"""Factors about 0."""
BRIGHTNESS = (-0.2, 0.2)
"""Added to values of [-1, 1]."""
