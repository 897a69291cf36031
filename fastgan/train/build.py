"""From a configuration to the data it names and the variant it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from fastgan.config import VARIANTS, Config
from fastgan.data import Dataset, Unpaired, open_dataset, open_unpaired
from fastgan.data.columns import describe_columns
from fastgan.data.ledger import KEY, entry_of
from fastgan.errors import ConfigError
from fastgan.gans import (
    AdversarialSettings,
    CycleSettings,
    Variant,
    build_cycle,
    build_variant,
)
from fastgan.measures.structure import same_contrast
from fastgan.models import describe as describe_network
from fastgan.models import parameter_count
from fastgan.train.batches import TrainingSet

__all__ = ["data_of", "describe", "settings_of", "summary", "variant_of"]


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
    if config.translates:
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
    settings = settings_of(config)
    facts = {"shape": data["shape"], "channels": data["channels"], "seed": config.seed}
    if isinstance(settings, CycleSettings):
        if "b" not in data:
            raise ConfigError("gan.variant: cyclegan trains on two data sets, one was given")
        modalities = (domain["normalisation"]["modality"] for domain in (data, data["b"]))
        return build_cycle(settings, same_contrast=same_contrast(*modalities), **facts)
    group, batch = settings.minibatch_stddev, config.train.batch_size
    if group and batch % group:
        raise ConfigError(
            f"model.minibatch_stddev: {group} does not divide train.batch_size {batch}"
        )
    conditional = config.data.conditional
    if conditional and not data["classes"]:
        raise ConfigError("data.conditional: the data set has no labels to condition on")
    return build_variant(
        settings,
        classes=data["classes"] if conditional else (),
        prior=data["prior"] if conditional else None,
        balanced=config.data.sampler == "balanced",
        **facts,
    )


def settings_of(config: Config) -> AdversarialSettings | CycleSettings:
    """The settings of the configuration's variant, its defaults filled in.

    Raises:
        ConfigError: a setting of another variant is not at its default: it would do nothing.
    """
    kind = VARIANTS[config.gan.variant]
    known = {field.name for field in fields(kind)}
    config = config.settled()
    chosen = {key: getattr(config.train, key) for key in ("lr_generator", "lr_critic", "betas")}
    for section, values in (("model", config.model), ("gan", config.gan)):
        for key, field in type(values).model_fields.items():
            value = getattr(values, key)
            if key in known:
                chosen[key] = value
            elif key != "variant" and value != field.default:
                raise ConfigError(
                    f"{section}.{key}: has no effect on gan.variant {config.gan.variant!r}; "
                    "leave it out"
                )
    return kind(**chosen)


def describe(dataset: TrainingSet) -> dict[str, Any]:
    """What a run folder records of a data set, as JSON values (data.json).

    Of two unpaired sets: that of domain A, and under "b" that of domain B; the fingerprint of A's
    record covers both.
    """
    other = getattr(dataset, "b", None)
    return {
        "fingerprint": dataset.fingerprint,
        "volumes": len(dataset),
        "shape": [int(size) for size in dataset.shape],
        "channels": int(dataset.channels),
        "spacing": [float(size) for size in dataset.spacing],
        "classes": list(dataset.classes),
        "prior": [float(share) for share in dataset.prior],
        "normalisation": dataset.normalisation,
        "columns": describe_columns(
            getattr(item, "columns", {}) for item in getattr(dataset, "items", [])
        ),
        **_ledger(getattr(dataset, "a", dataset)),
    } | ({} if other is None else {"b": describe(other)})


def _ledger(dataset: TrainingSet) -> dict[str, Any]:
    """Whom a set trains on and whom it holds out, by hash, where it knows its subjects."""
    if not (items := getattr(dataset, "items", [])):
        return {}
    held = getattr(dataset, "held_out", ())
    return {KEY: [entry_of(dataset.fingerprint, [item.subject for item in items], held)]}


def summary(record: Mapping[str, Any], variant: Variant) -> str:
    """The volumes of a record and the parts of every network, line by line."""
    domains = [record, record["b"]] if "b" in record else [record]
    volumes = " and ".join(str(domain["volumes"]) for domain in domains)
    networks = {name: module for name, module in variant.modules.items() if parameter_count(module)}
    sizes = ", ".join(f"{name} {parameter_count(module):,}" for name, module in networks.items())
    classes = ", ".join(record["classes"]) or "none"
    parts = [f"{name}: {describe_network(module)}" for name, module in networks.items()]
    return "\n".join([f"volumes: {volumes}; classes: {classes}; weights: {sizes}", *parts])


def _check_domains(config: Config) -> None:
    if not config.translates:
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
