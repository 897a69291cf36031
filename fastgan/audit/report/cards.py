"""Cards in Markdown: what is known of a generator and of its volumes, by whom, and what is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from fastgan.audit.report.record import Record
from fastgan.pictures.html import template

__all__ = ["Fact", "Facts", "dataset_card", "inert", "model_card"]


class Fact(NamedTuple):
    """One line of a card."""

    what: str
    value: str
    by: str
    """Who says so."""


@dataclass(frozen=True)
class Facts:
    """What the cards say beside the audit."""

    name: str
    model: tuple[Fact, ...]
    data: tuple[Fact, ...]
    attribution: str = ""
    """Of the data set, or ""."""


def model_card(record: Record, facts: Facts) -> str:
    """Markdown on the generator: what it was trained on, how, and what the audit said."""
    return _filled("model_card.md.j2", record, facts)


def dataset_card(record: Record, facts: Facts) -> str:
    """Markdown on the generated volumes as a data set."""
    return _filled("dataset_card.md.j2", record, facts)


def inert(text: object) -> str:
    r"""Text that Markdown shows as it is: no markup, no link, no control character, one line.

    Names of classes and sites come out of other people's files.

    >>> inert("a|b <i> [x](http://y)")
    'a\\|b &lt;i> \\[x](http&#58;//y)'
    """
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    plain = re.sub(r"([\\`|\[*_])", r"\\\1", plain)
    return plain.replace("<", "&lt;").replace("://", "&#58;//")


def _filled(name: str, record: Record, facts: Facts) -> str:
    text: str = _template(name).render(record=record, facts=facts)
    return text


@cache
def _template(name: str) -> Any:
    return template("fastgan.audit.report", name, inert=inert)
