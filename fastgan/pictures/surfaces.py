"""Masks are drawn as lit surfaces, and a page shows real ones beside generated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastgan.arrays import Floats
from fastgan.errors import ConfigError

__all__ = ["draw_montage", "shaded_surface"]

# Direction to the light in (row, column, towards the viewer): from the upper left, in front.
_LIGHT = np.array([-0.4, -0.5, 0.77])


def shaded_surface(mask: Floats) -> Floats:
    """The 1/2-surface of a soft mask seen along its first axis, lit from the upper left.

    Args:
        mask: [D, H, W] in [0, 1].

    Returns:
        [H, W] brightness in [0, 1]; NaN where no surface is.
    """
    inside = mask >= 0.5
    hit = inside.any(axis=0)
    first = inside.argmax(axis=0)
    gradient = np.array(np.gradient(mask.astype(np.float64)))
    picture = np.full(hit.shape, np.nan)
    rows, columns = np.nonzero(hit)
    depth = first[rows, columns]
    # The voxel before the surface shares in the normal: it lies on the other side of the crossing.
    before = np.maximum(depth - 1, 0)
    normal = -(gradient[:, depth, rows, columns] + gradient[:, before, rows, columns])
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-9)
    towards = np.stack([normal[1], normal[2], -normal[0]])
    picture[rows, columns] = 0.25 + 0.75 * np.clip(_LIGHT @ towards, 0.0, 1.0)
    return picture


def draw_montage(rows: dict[str, Floats], path: Path, *, title: str, caption: str) -> None:
    """Write a PNG with one titled row of lit surfaces per entry.

    Args:
        rows: title -> masks [N, D, H, W] in [0, 1]; the shortest row sets the number of columns.
        path: file to write; its folder exists.
        title: above the page.
        caption: below the page: what these pictures are, and are not.

    Raises:
        ConfigError: no masks, or matplotlib (the `report` extra) is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "montage: needs matplotlib; install it with pip install 'fastgan[report]'"
        ) from error
    columns = min((len(masks) for masks in rows.values()), default=0)
    if columns == 0:
        raise ConfigError("montage: a row holds no masks")
    figure = Figure(
        figsize=(1.0 * columns + 1.6, 1.0 * len(rows) + 1.0), dpi=130, facecolor="white"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(rows),
        columns,
        squeeze=False,
        gridspec_kw={"wspace": 0.05, "hspace": 0.05, "left": 0.14, "right": 0.99},
    )
    for line, (name, masks) in zip(axes, rows.items(), strict=True):
        for axis, mask in zip(line, masks[:columns], strict=True):
            axis.imshow(shaded_surface(mask), cmap="bone", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[], facecolor="#101418")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=12)
    figure.text(0.5, 0.02, caption, ha="center", fontsize=9)
    figure.savefig(path)
