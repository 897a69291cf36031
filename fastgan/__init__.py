"""Train large 3D GANs on CT and MRI volumes, then judge whether their volumes may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.runs.fit import (
        GAN,
        HingeGAN,
        LeastSquaresGAN,
        NonSaturatingGAN,
        WassersteinClip,
        WassersteinGP,
    )
    from fastgan.runs.load import load

__version__ = "0.1.0"
__all__ = [
    "GAN",
    "HingeGAN",
    "LeastSquaresGAN",
    "NonSaturatingGAN",
    "WassersteinClip",
    "WassersteinGP",
    "load",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for; `import fastgan` alone loads nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'fastgan' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"fastgan.runs.{'load' if name == 'load' else 'fit'}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
