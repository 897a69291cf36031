"""Named spans of a step for profilers, in the NVTX domain "fastgan".

They need the package nvtx (`pip install 'fastgan[profile]'`); without it they are empty. A span
costs under a microsecond where no profiler listens.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

__all__ = ["span"]


@cache
def span(name: str) -> AbstractContextManager[object]:
    """A reusable context: data, critic, generator, optimiser, ema, checkpoint or samples."""
    try:
        import nvtx
    except ImportError:
        return nullcontext()
    annotation: AbstractContextManager[object] = nvtx.annotate(name, domain="fastgan")
    return annotation
