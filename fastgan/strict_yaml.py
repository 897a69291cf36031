"""YAML as a configuration may use it: no aliases, no key twice, no giant numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from fastgan.errors import BadFile, ConfigError
from fastgan.guarded import read_plain

__all__ = ["StrictLoader", "read_mapping"]

_NUMBERS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float")} | {"!whole"}
_DIGITS = 64
_MAX_BYTES = 2**20
"""No configuration is longer; what is, is another file."""
_TOLD = 200
"""Characters of the parser's complaint that a message names."""


class StrictLoader(yaml.SafeLoader):
    """Safe YAML without duplicate keys and without aliases (which can grow without bound)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse an alias; else as its base."""
        if self.check_event(yaml.AliasEvent):
            raise ConfigError("YAML aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is no word, or stands twice; else as its base."""
        seen = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"line {line}: a key must be a word")
            if key_node.value in seen:
                raise ConfigError(f"key {key_node.value!r} twice, again in line {line}")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Refuse a number of many characters; else as its base."""
        value = super().construct_scalar(node)
        # Numbers to the base of 60, one of YAML's, take quadratic time.
        if node.tag in _NUMBERS and len(value) > _DIGITS:
            line = node.start_mark.line + 1
            raise ConfigError(f"line {line}: a number of {len(value)} characters")
        return value


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    value = float(loader.construct_scalar(node))
    return int(value) if math.isfinite(value) else value


# YAML 1.1 reads 1e-4 and 1e4, which have no dot, as text; the latter is a whole number.
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE]-\d+$"), list("-+0123456789")
)
StrictLoader.add_implicit_resolver(
    "!whole", re.compile(r"[-+]?\d+[eE]\+?\d+$"), list("-+0123456789")
)
StrictLoader.add_constructor("!whole", _whole)


def read_mapping(path: Path | str, *, follow: bool = True) -> dict[str, Any]:
    """The keys of a YAML file, not yet checked against a schema.

    Args:
        path: of the file.
        follow: read what a link points to; not in a folder that somebody else may have made.

    Raises:
        BadFile: the file is missing, unreadable, longer than 1 MiB or not YAML.
        UnsafeFile: a pipe or device, or a link that is not followed.
        ConfigError: it is no mapping, or uses what is refused here.
    """
    path = Path(path)
    try:
        text = read_plain(path, _MAX_BYTES, follow=follow).decode()
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: cannot read the config: {error}") from error
    try:
        content = yaml.load(text, StrictLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:  # PyYAML raises whatever its scalars ran into, KeyError included
        told = " ".join(str(error).split())[:_TOLD]
        raise BadFile(f"{path}: not valid YAML: {told or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys, got {type(content).__name__}")
    return content
