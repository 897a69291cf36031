"""What a run was made with: remembered by every checkpoint, compared by whoever uses one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastgan.config import Config, parse
from fastgan.errors import CorruptFile, StateError
from fastgan.train.checkpoint import Checkpoint

__all__ = [
    "FINGERPRINT",
    "FREE_KEYS",
    "PLACES",
    "changed_keys",
    "config_of",
    "data_of",
    "differences",
    "facts_of",
    "flat",
    "recorded",
    "refuse_other",
    "settings_of",
]

# Keys a resumed run may change without changing what it computes from step to step.
FREE_KEYS = frozenset(
    {
        "name",
        "data.cache_dir",
        "train.steps",
        "train.device",
        "train.checkpoint_every",
        "train.keep_checkpoints",
        "train.sample_every",
        "train.log_every",
        "train.tensorboard",
        "train.non_finite",
        "train.cuda_graph",
        "train.micro_batch",
        "train.recompute",
        "train.split",
    }
)
PLACES = frozenset({"data.source", "data.source_b"})
"""Keys that say where the data lie, which may be moved; their content has the fingerprint."""
FINGERPRINT = "data.fingerprint"
"""Stands for the content of the data files among the keys that may have changed."""

SHOWN = 5
"""Keys that an error names."""


def changed_keys(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted key to (old value, new value), for every key that differs."""
    before, after = flat(old), flat(new)
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def settings_of(config: Config) -> dict[str, Any]:
    """What a checkpoint remembers of a configuration: dotted keys, those that may change left out.

    Its JSON is canonical: two configurations that compute the same have the same.
    """
    settings = flat(config.settled())
    return {key: value for key, value in settings.items() if key not in FREE_KEYS | PLACES}


def facts_of(data: Mapping[str, Any]) -> dict[str, str]:
    """The same of a record of data: dotted keys and their JSON, where the data lie left out."""
    flat: dict[str, str] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, one in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), one)
        else:
            flat[prefix] = json.dumps(value)

    add("", {key: value for key, value in data.items() if key != "sources"})
    return flat


def config_of(settings: Mapping[str, Any], now: Config, run: Path) -> Config:
    """A configuration with the settings that a checkpoint remembers, the others as they are now.

    Args:
        settings: by `settings_of`.
        now: the run's.
        run: for errors.

    Raises:
        ConfigError: a setting that this version does not know.
    """
    content = now.model_dump(mode="json")
    for key, value in settings.items():
        section, _, leaf = key.partition(".")
        if leaf:
            content[section][leaf] = value
        else:
            content[section] = value
    return parse(content, str(run / "config.yaml"))


def data_of(facts: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The record of the data that a checkpoint remembers, by `facts_of`; `path` for errors.

    Raises:
        CorruptFile: facts that `facts_of` has not made.
    """
    content: dict[str, Any] = {}
    try:
        for key, text in facts.items():
            *above, leaf = key.split(".")
            place = content
            for name in above:
                place = place.setdefault(name, {})
            place[leaf] = json.loads(text)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFile(f"{path}: the checkpoint's facts of the data: {error}") from None
    return content


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key to (old value, new value) for every key that differs; what is missing is None."""
    keys = [*was, *(key for key in now if key not in was)]
    return {
        key: (was.get(key), now.get(key))
        for key in keys
        if key not in was or key not in now or was[key] != now[key]
    }


def recorded(found: Checkpoint, part: str) -> Mapping[str, Any]:
    """What a checkpoint's manifest says of "settings" or "data".

    Raises:
        CorruptFile: nothing.
    """
    recorded = found.identity.get(part)
    if not isinstance(recorded, dict):
        raise CorruptFile(f"{found.path}: its manifest does not say with what {part} it was made")
    return recorded


def refuse_other(path: Path, part: str, now: Mapping[str, Any], found: Checkpoint) -> None:
    """Refuse a file of a run folder that is not what a checkpoint was made with.

    Args:
        path: of the file, for the error.
        part: "settings" or "data".
        now: what the file says of it.
        found: the checkpoint.

    Raises:
        StateError: a key differs; names each with both values.
    """
    changes = differences(recorded(found, part), now)
    if not changes:
        return
    named = [f"{key} is {now!r}, was {was!r}" for key, (was, now) in changes.items()]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    raise StateError(
        f"{path}: not what {found.path.name} was made with: {'; '.join(named[:SHOWN])}{more}; put "
        "the file back as it was, or choose a checkpoint made with it"
    )


def flat(config: Config) -> dict[str, Any]:
    """The values of a configuration by dotted key."""
    values: dict[str, Any] = {}
    for section, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            values |= {f"{section}.{leaf}": v for leaf, v in value.items()}
        else:
            values[section] = value
    return values
