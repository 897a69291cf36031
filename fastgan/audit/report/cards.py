"""Cards in Markdown: what is known of a generator and of its volumes, by whom, and what is not."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from fastgan.audit.report.claim import claim
from fastgan.audit.report.fact import Facts
from fastgan.audit.report.record import Record
from fastgan.pictures.html import template

__all__ = ["dataset_card", "inert", "model_card"]


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
    scorecard = _template("scorecard.md.j2").render(record=record)
    text: str = _template(name).render(
        record=record, facts=facts, scorecard=scorecard, claim=claim(record, facts)
    )
    return text


@cache
def _template(name: str) -> Any:
    return template("fastgan.audit.report", name, inert=inert)
