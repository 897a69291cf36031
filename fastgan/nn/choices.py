"""Settings that take one of a few names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fastgan.errors import ConfigError

__all__ = ["check_choice"]


def check_choice(setting: str, value: str, known: Iterable[str]) -> None:
    """Refuse a name that is not known, and say the nearest one that is.

    Raises:
        ConfigError: e.g. "norm 'instanc' is unknown; did you mean 'instance'? known: ...".
    """
    known = list(known)
    if value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"{setting} {value!r} is unknown; {hint}known: {', '.join(known)}")
