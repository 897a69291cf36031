"""GANs in three lines: settings, `fit`, `sample`. One class per game, all of one base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from fastgan.config import DataConfig, GanConfig, TrainConfig, load, parse
from fastgan.data import open_dataset
from fastgan.data.inspect import inspect
from fastgan.errors import ConfigError, StateError
from fastgan.gans import AdversarialGAN, AdversarialSettings
from fastgan.nn.choices import check_choice
from fastgan.train import RunFolder, checkpoint, describe, fit, load_averages
from fastgan.train.batches import TrainingSet
from fastgan.train.build import variant_of

__all__ = [
    "GAN",
    "FittableGAN",
    "HingeGAN",
    "LeastSquaresGAN",
    "NonSaturatingGAN",
    "WassersteinClip",
    "WassersteinGP",
]

# Those of the config's `train` section are given to `fit`.
SETTINGS = tuple(
    field.name
    for field in fields(AdversarialSettings)
    if field.name not in TrainConfig.model_fields
)


class FittableGAN:
    """A game that fits itself to a data set; use one of its subclasses.

    Args:
        seed: of the initial weights and of every draw of the training.
        settings: any of the model and game settings of `fastgan.gans.AdversarialSettings` that
            the class does not fix, e.g. latent_dim=64, critic_channels=(16, 32, 64).

    Attributes:
        run_name: default name of a run.
        fixed: settings that make the game what its name says.
        defaults: settings that the game is usually played with; others can be given.
        training: the same for keys of the config's `train` section, given to `fit`.

    Raises:
        ConfigError: an unknown setting, or one that the class fixes.
    """

    run_name: ClassVar[str]
    fixed: ClassVar[Mapping[str, Any]]
    defaults: ClassVar[Mapping[str, Any]] = {}
    training: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, *, seed: int = 0, **settings: Any) -> None:
        kind = type(self).__name__
        if not hasattr(self, "fixed"):
            raise ConfigError(f"{kind}: no game of its own; use GAN, WassersteinGP, ...")
        for name in settings:
            check_choice("setting", name, SETTINGS)
            if name in self.fixed:
                raise ConfigError(f"{kind}: {name} is {self.fixed[name]!r} and cannot be set")
        self.seed, self.settings = seed, {**self.defaults, **settings}
        self.variant: AdversarialGAN | None = None

    def fit(
        self,
        dataset: TrainingSet | Path | str,
        *,
        steps: int = 10_000,
        out: Path | str = "runs",
        name: str | None = None,
        conditional: bool | None = None,
        **training: Any,
    ) -> RunFolder:
        """Train on a data set; afterwards `sample` draws from the averaged weights.

        Args:
            dataset: a `fastgan.data.Dataset`; or a folder, manifest.csv, dataset.json, .npz or name
                of a bundled set, read as `fastgan inspect` proposes; or a configuration (.yaml),
                whose data section is read.
            steps: generator steps.
            out: folder that receives the run folder.
            name: of the run; by default the game's.
            conditional: condition on the data set's labels; by default if it has any, of a path as
                `inspect` proposes or the configuration says.
            training: other keys of the config's `train` section, e.g. batch_size=8.

        Returns:
            The run folder.

        Raises:
            ConfigError: settings that cannot work together or with the data set's shape.
        """
        if isinstance(dataset, str | Path):
            data = _data_of(dataset, conditional)
            dataset = open_dataset(data, "train", cache_dir=Path(out) / "cache")
        else:
            if conditional is None:
                conditional = bool(dataset.classes)
            balanced = conditional and getattr(dataset, "balanced", False)
            data = DataConfig(
                source="(given to fit)",
                shape=dataset.shape,
                conditional=conditional,
                sampler="balanced" if balanced else "natural",
            )
        settings = {**self.settings, **self.fixed}
        game = {k: v for k, v in settings.items() if k in GanConfig.model_fields}
        model = {k: v for k, v in settings.items() if k not in game}
        config = parse(
            {
                "name": name or self.run_name,
                "seed": self.seed,
                "data": data.model_dump(mode="json"),
                "model": model,
                "gan": game,
                "train": {**self.training, "steps": steps, **training},
            }
        )
        variant = variant_of(config, describe(dataset))
        assert isinstance(variant, AdversarialGAN)
        run = fit(variant, dataset, config, out=out)
        load_averages(variant, checkpoint.newest(run.path))
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
            raise StateError(f"{type(self).__name__}: fit it before sampling from it")
        return self.variant.sample(count, labels, rng)


def _data_of(path: Path | str, conditional: bool | None) -> DataConfig:
    """The data section for a path: of a configuration, or what `inspect` proposes."""
    if str(path).lower().endswith((".yaml", ".yml")):
        data = load(path).data
    else:
        data = parse(inspect(path).proposal, where=str(path)).data
    return data if conditional is None else data.model_copy(update={"conditional": conditional})


class GAN(FittableGAN):
    """The minimax game of 2014, the generator minimising E log(1 - D). See FittableGAN.

    >>> GAN(latent_dim=16).settings["critic_steps"]
    1
    """

    run_name = "minimax"
    fixed: ClassVar = {"objective": "minimax"}
    defaults: ClassVar = {"penalty": "none", "critic_steps": 1}


class NonSaturatingGAN(FittableGAN):
    """The generator minimises -E log D; by default with an R1 penalty. See FittableGAN.

    >>> NonSaturatingGAN(penalty_weight=10.0).settings["penalty"]
    'r1'
    """

    run_name = "non-saturating"
    fixed: ClassVar = {"objective": "non-saturating"}
    defaults: ClassVar = {"penalty": "r1", "penalty_weight": 1.0, "critic_steps": 1}


class LeastSquaresGAN(FittableGAN):
    """Scores of 1 for real and 0 for generated volumes. See FittableGAN.

    >>> LeastSquaresGAN(critic_norm="instance").settings["penalty"]
    'none'
    """

    run_name = "least-squares"
    fixed: ClassVar = {"objective": "least-squares"}
    defaults: ClassVar = {"penalty": "none", "critic_steps": 1}


class HingeGAN(FittableGAN):
    """Margins of 1; by default with spectral normalisation of the critic. See FittableGAN.

    >>> HingeGAN(architecture="residual").settings["spectral_norm"]
    True
    """

    run_name = "hinge"
    fixed: ClassVar = {"objective": "hinge"}
    defaults: ClassVar = {"penalty": "none", "spectral_norm": True, "critic_steps": 1}


class WassersteinClip(FittableGAN):
    """The first WGAN: the critic's weights are clipped to [-0.01, 0.01]. See FittableGAN.

    Trained as in the paper: Adam with beta1 = 0, which is RMSprop with a bias correction.

    >>> WassersteinClip(weight_clip=0.05).settings["weight_clip"]
    0.05
    """

    run_name = "wasserstein-clip"
    fixed: ClassVar = {"objective": "wgan", "penalty": "none", "spectral_norm": False}
    defaults: ClassVar = {"weight_clip": 0.01, "critic_steps": 5}
    training: ClassVar = {"lr_generator": 5e-5, "lr_critic": 5e-5, "betas": (0.0, 0.99)}


class WassersteinGP(FittableGAN):
    """Wasserstein GAN with gradient penalty. See FittableGAN.

    >>> WassersteinGP(latent_dim=16, critic_steps=3).settings["latent_dim"]
    16
    """

    run_name = "wasserstein-gp"
    fixed: ClassVar = {"objective": "wgan-gp", "penalty": "wgan-gp", "weight_clip": 0.0}
