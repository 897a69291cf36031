"""From a configuration and a data set's record to the variant they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastgan.config import Config
from fastgan.errors import ConfigError
from fastgan.gans import Variant, build_variant

__all__ = ["variant_of"]


def variant_of(config: Config, data: Mapping[str, Any]) -> Variant:
    """Networks with the run's initial weights, and the game between them.

    Args:
        config: model, gan and train sections, and the seed, are read.
        data: what `fastgan.train.describe` gave, or a run folder's data.json.

    Raises:
        ConfigError: the settings cannot work together or with the data.
    """
    conditional = config.data.conditional
    if conditional and not data["classes"]:
        raise ConfigError("data.conditional: the data set has no labels to condition on")
    return build_variant(
        shape=data["shape"],
        channels=data["channels"],
        classes=data["classes"] if conditional else (),
        prior=data["prior"] if conditional else None,
        balanced=config.data.sampler == "balanced",
        **config.model.model_dump(),
        **config.gan.model_dump(),
        lr_generator=config.train.lr_generator,
        lr_critic=config.train.lr_critic,
        betas=config.train.betas,
        seed=config.seed,
    )
