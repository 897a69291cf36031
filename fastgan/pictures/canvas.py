"""A page of axes is drawn by matplotlib, without a window or a global state."""

from __future__ import annotations

import io
from typing import Any

__all__ = ["canvas", "png"]


def canvas(rows: int, columns: int, **look: Any) -> tuple[Any, list[Any]] | None:
    """A figure and its axes, row by row; None where matplotlib is not installed.

    Args:
        rows: of axes.
        columns: of axes.
        look: arguments of matplotlib's Figure.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    page = Figure(**look)
    FigureCanvasAgg(page)
    return page, list(page.subplots(rows, columns, squeeze=False).ravel())


def png(page: Any, **how: Any) -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    page.savefig(buffer, format="png", **how)
    return buffer.getvalue()
