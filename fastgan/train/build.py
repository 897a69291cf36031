"""From a configuration to the data it names and the variant it asks for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from fastgan.config import Config, GanConfig, ModelConfig
from fastgan.data import Dataset, Unpaired, open_dataset, open_unpaired
from fastgan.errors import ConfigError
from fastgan.gans import Variant, build_cycle, build_variant
from fastgan.measures.structure import same_contrast

__all__ = ["data_of", "variant_of"]

CYCLEGAN = "cyclegan"
DEFAULT_OBJECTIVE = {"adversarial": "wgan-gp", CYCLEGAN: "least-squares"}


def data_of(
    config: Config, split: Literal["train", "holdout"], *, cache_dir: Path | None = None
) -> Dataset | Unpaired:
    """One split of the data a run trains on: one set, or the two of a cyclegan.

    Args:
        config: data and gan sections are read.
        split: train, or holdout: the subjects never trained on.
        cache_dir: see `fastgan.data.open_dataset`.

    Raises:
        ConfigError: two domains where the variant takes one or the other way round, or sets that
            do not fit the settings or each other.
        BadFile and its kinds: a volume that cannot be used.
    """
    _check_domains(config)
    if config.gan.variant == CYCLEGAN:
        return open_unpaired(config.data, split, cache_dir=cache_dir)
    return open_dataset(config.data, split, cache_dir=cache_dir)


def variant_of(config: Config, data: Mapping[str, Any]) -> Variant:
    """Networks with the run's initial weights, and the game between them.

    Args:
        config: model, gan and train sections, and the seed, are read.
        data: what `fastgan.train.describe` gave, or a run folder's data.json.

    Raises:
        ConfigError: the settings cannot work together or with the data, or one is of another
            variant.
    """
    _check_domains(config)
    build = build_cycle if config.gan.variant == CYCLEGAN else build_variant
    settings = _settings_of(build, config)
    settings["objective"] = config.gan.objective or DEFAULT_OBJECTIVE[config.gan.variant]
    settings |= {"shape": data["shape"], "channels": data["channels"], "seed": config.seed}
    for name in ("lr_generator", "lr_critic", "betas"):
        settings[name] = getattr(config.train, name)
    if config.gan.variant == CYCLEGAN:
        if "b" not in data:
            raise ConfigError("gan.variant: cyclegan trains on two data sets, one was given")
        modalities = (domain["normalisation"]["modality"] for domain in (data, data["b"]))
        return build_cycle(**settings, same_contrast=same_contrast(*modalities))
    conditional = config.data.conditional
    if conditional and not data["classes"]:
        raise ConfigError("data.conditional: the data set has no labels to condition on")
    return build_variant(
        classes=data["classes"] if conditional else (),
        prior=data["prior"] if conditional else None,
        balanced=config.data.sampler == "balanced",
        **settings,
    )


def _check_domains(config: Config) -> None:
    if config.gan.variant != CYCLEGAN:
        for key in ("source_b", "suffix_b", "modality_b", "window_b"):
            if getattr(config.data, key) != type(config.data).model_fields[key].default:
                raise ConfigError(
                    f"data.{key}: only a cyclegan has a domain B; set gan.variant to cyclegan, or "
                    "leave it out"
                )
        return
    if config.data.source_b is None:
        raise ConfigError(
            "data.source_b: missing; a cyclegan needs the volumes of domain B beside data.source"
        )
    if config.data.conditional or config.data.sampler == "balanced":
        raise ConfigError(
            "data.conditional: a cyclegan has no classes; leave out conditional and balanced"
        )


def _settings_of(build: Callable[..., Variant], config: Config) -> dict[str, Any]:
    """Model and game settings that `build` takes; one it does not take must be at its default.

    Raises:
        ConfigError: a setting of another variant, which would silently do nothing.
    """
    known = inspect.signature(build).parameters
    chosen = {}
    sections: tuple[tuple[str, ModelConfig | GanConfig], ...] = (
        ("model", config.model),
        ("gan", config.gan),
    )
    for section, values in sections:
        for key, field in type(values).model_fields.items():
            value = getattr(values, key)
            if key in known:
                chosen[key] = value
            elif key != "variant" and value != field.default:
                raise ConfigError(
                    f"{section}.{key}: has no effect on gan.variant {config.gan.variant!r}; "
                    "leave it out"
                )
    return chosen
