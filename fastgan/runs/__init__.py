"""What can be done with a run, without a command line."""

from __future__ import annotations

from fastgan.runs.fit import (
    GAN,
    FittableGAN,
    HingeGAN,
    LeastSquaresGAN,
    NonSaturatingGAN,
    WassersteinClip,
    WassersteinGP,
)

__all__ = [
    "GAN",
    "FittableGAN",
    "HingeGAN",
    "LeastSquaresGAN",
    "NonSaturatingGAN",
    "WassersteinClip",
    "WassersteinGP",
]
