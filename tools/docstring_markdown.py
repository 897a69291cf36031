"""Docstrings as Markdown: this project's own sections as paragraphs, doctests as code.

The Google style that mkdocstrings reads knows neither: it would take the first line of
`Derivatives:` for the title of a box, and a bare `>>>` for a quotation.
"""

from __future__ import annotations

import re

__all__ = ["as_markdown"]

SECTIONS = ("Derivatives", "Deterministic", "Cost", "Source", "Exit codes")
HEAD = re.compile(rf"({'|'.join(SECTIONS)}):\s*(.*)")


def as_markdown(text: str) -> str:
    """The docstring with its own sections as bold paragraphs, and doctests as code."""
    out: list[str] = []
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        line = lines[position]
        head = HEAD.fullmatch(line)
        if head:
            block = [head[2]]
            while position + 1 < len(lines) and lines[position + 1].startswith("    "):
                position += 1
                block.append(lines[position].strip())
            out += ["", f"**{head[1]}.** {' '.join(block).strip()}", ""]
        elif line.startswith(">>>"):
            block = []
            while position < len(lines) and lines[position].strip():
                block.append(lines[position])
                position += 1
            out += ["", "```pycon", *block, "```", ""]
        else:
            out.append(line)
        position += 1
    return "\n".join(out)
