"""WGAN-GP in three lines: settings, `fit`, `sample`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import StateError
from fastgan.gans.adversarial import AdversarialGAN
from fastgan.gans.build import build_variant
from fastgan.nn.choices import check_choice

if TYPE_CHECKING:
    from fastgan.train import RunFolder

__all__ = ["WassersteinGP"]

# Keyword arguments of build_variant that come from the data or are fixed by the name.
OF_THE_DATA = ("shape", "channels", "classes", "prior", "balanced")
FIXED = {"objective": "wgan-gp", "penalty": "wgan-gp"}
OF_TRAINING = ("lr_generator", "lr_critic", "betas")
TUNABLE = tuple(
    name
    for name in inspect.signature(build_variant).parameters
    if name not in (*OF_THE_DATA, *FIXED, *OF_TRAINING, "seed")
)
OF_THE_GAME = ("critic_steps", "penalty_weight", "one_sided", "penalty_interval", "augment")


class WassersteinGP:
    """A Wasserstein GAN with gradient penalty that fits itself to a data set.

    Args:
        seed: of the initial weights and of every draw of the training.
        settings: any of `build_variant`'s model and game settings, e.g. latent_dim=64,
            critic_channels=(16, 32, 64), critic_norm="instance", penalty_weight=10.0.

    Raises:
        ConfigError: an unknown setting.

    >>> WassersteinGP(latent_dim=16, critic_steps=3).settings["latent_dim"]
    16
    """

    def __init__(self, *, seed: int = 0, **settings: Any) -> None:
        for name in settings:
            check_choice("setting", name, TUNABLE)
        self.seed, self.settings = seed, settings
        self.variant: AdversarialGAN | None = None

    def fit(
        self,
        dataset: Any,
        *,
        steps: int = 10_000,
        out: Path | str = "runs",
        name: str = "wasserstein-gp",
        conditional: bool | None = None,
        **training: Any,
    ) -> RunFolder:
        """Train on a data set; afterwards `sample` draws from the averaged weights.

        Args:
            dataset: a `fastgan.data` data set.
            steps: generator steps.
            out: folder that receives the run folder.
            name: of the run.
            conditional: condition on the data set's labels; by default if it has any.
            training: other keys of the config's `train` section, e.g. batch_size=8.

        Returns:
            The run folder.

        Raises:
            ConfigError: settings that cannot work together or with the data set's shape.
        """
        from fastgan.config import parse
        from fastgan.train import checkpoint, describe, fit, load_generator
        from fastgan.train.build import variant_of

        if conditional is None:
            conditional = bool(dataset.classes)
        balanced = conditional and getattr(dataset, "balanced", False)
        game = {k: v for k, v in self.settings.items() if k in OF_THE_GAME}
        model = {k: v for k, v in self.settings.items() if k not in OF_THE_GAME}
        config = parse(
            {
                "name": name,
                "seed": self.seed,
                "data": {
                    "source": "(given to fit)",
                    "shape": tuple(dataset.shape),
                    "conditional": conditional,
                    "sampler": "balanced" if balanced else "natural",
                },
                "model": model,
                "gan": FIXED | game,
                "train": {"steps": steps} | training,
            }
        )
        variant: Any = variant_of(config, describe(dataset))
        run = fit(variant, dataset, config, out=out)
        load_generator(variant, checkpoint.newest(run.path))
        self.variant = variant
        return run

    def sample(
        self,
        count: int,
        labels: Tensor | np.ndarray | int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Tensor:
        """Generate [count, C, D, H, W] float32 volumes in [-1, 1].

        Args:
            count: n.
            labels: one class or n of them; None draws them from the training prior.
            rng: source of latents and labels; None: unpredictable.

        Raises:
            StateError: before `fit`.
            ConfigError: labels that do not fit.
        """
        if self.variant is None:
            raise StateError("WassersteinGP: fit it before sampling from it")
        with torch.no_grad():
            return self.variant.sample(count, labels, rng or np.random.default_rng())
