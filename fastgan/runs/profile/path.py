"""The spans that one is in."""

from __future__ import annotations

__all__ = ["REST", "Path"]

REST = "the rest"
"""Of a step, what lies in no span."""


class Path:
    """A listener that knows the spans it is in, the step's own left out."""

    def __init__(self) -> None:
        self._inside: list[str] = []

    def begin(self, name: str) -> None:
        """See `fastgan.spans.Listener`."""
        self._inside.append(name)

    def end(self, name: str) -> None:
        """See `fastgan.spans.Listener`."""
        self._inside.pop()

    @property
    def here(self) -> str:
        """Such as critic/backward; `REST` outside of all."""
        return "/".join(self._inside[1:]) or REST
