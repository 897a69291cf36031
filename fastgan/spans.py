"""Named spans of a training step, for profilers and whoever else listens.

Where the package nvtx is installed (`pip install 'fastgan[profile]'`), every span is a range of the
NVTX domain "fastgan". A span costs about a microsecond where nobody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from types import TracebackType
from typing import Any, Protocol

import torch

__all__ = ["DOMAIN", "Listener", "Span", "annotated_operators", "heard_by", "ranged", "span"]

DOMAIN = "fastgan"

_listeners: list[Listener] = []
_annotating = False


class Listener(Protocol):
    """What is told of spans, from whichever thread they are in."""

    def begin(self, name: str) -> None:
        """A span begins, inside all that began and have not ended."""

    def end(self, name: str) -> None:
        """The span that began last ends."""


class Span(AbstractContextManager[None]):
    """A reusable context; `span` gives the one of a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._range = _nvtx_range(name)

    def __enter__(self) -> None:
        self._range.__enter__()
        for listener in _listeners:
            listener.begin(self.name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for listener in reversed(_listeners):
            listener.end(self.name)
        self._range.__exit__(kind, error, trace)


@cache
def span(name: str) -> Span:
    """The span of a step, data, critic, penalty, generator, backward, optimiser, ema, ..."""
    return Span(name)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell a listener of all spans until the block ends."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def annotated_operators() -> Iterator[None]:
    """Until the block ends, every operator of `fastgan.ops` is an NVTX range, too.

    Its text is the operator with the shape and dtype of its first tensor; its payload, the bytes
    of all tensors it reads.
    """
    global _annotating
    _annotating = True
    try:
        yield
    finally:
        _annotating = False


def ranged(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of an operator, in a range of its own inside `annotated_operators`."""

    def run(*args: Any) -> Any:
        if not _annotating:
            return kernel(*args)
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        text = name
        if tensors:
            dtype = str(tensors[0].dtype).removeprefix("torch.")
            text = f"{name} {list(tensors[0].shape)} {dtype}"
        with _nvtx_range(text, sum(t.nbytes for t in tensors)):
            return kernel(*args)

    return run


def _nvtx_range(text: str, payload: int | None = None) -> AbstractContextManager[object]:
    try:
        import nvtx
    except ImportError:
        return nullcontext()
    found: AbstractContextManager[object] = nvtx.annotate(text, domain=DOMAIN, payload=payload)
    return found
