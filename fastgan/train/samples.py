"""The sample pictures of a run, `samples/step-<step>.png`, with what each shows below it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.arrays import Floats
from fastgan.gans.variant import Pictures
from fastgan.pictures.sheets import write_sheet

__all__ = ["sample_pictures", "write_samples"]

_NAME = re.compile(r"step-(\d+)\.png")


def write_samples(run: Path, step: int, shown: Pictures, data: Mapping[str, Any]) -> Path:
    """Write the middle slices of what a variant shows.

    Args:
        run: the run folder.
        step: steps done.
        shown: by `Variant.pictures`.
        data: content of the run's data.json.

    Returns:
        The picture's path.

    Raises:
        ResourceLimit, BadFile: the file system refuses.
    """
    path = run / "samples" / f"step-{step:07d}.png"
    path.parent.mkdir(exist_ok=True)
    volumes = shown.volumes.float().cpu().numpy()
    write_sheet(
        path,
        volumes,
        shown.columns,
        caption=_caption(step, shown, volumes, data),
        titles=shown.titles,
        lines=shown.lines,
    )
    return path


def sample_pictures(run: Path, until: int) -> dict[int, Path]:
    """Step to picture, ascending, of the pictures up to step `until`."""
    found = {
        int(match[1]): path
        for path in (run / "samples").glob("step-*.png")
        if (match := _NAME.fullmatch(path.name))
    }
    return {step: found[step] for step in sorted(found) if step <= until}


def _caption(step: int, shown: Pictures, volumes: Floats, data: Mapping[str, Any]) -> str:
    parts = [f"Step {step:,}: {shown.caption or 'volumes'}."]
    if shown.titles:
        parts.append(f"In each line: {', '.join(shown.titles)}.")
    if shown.lines:
        parts.append(f"Lines from the top: {', '.join(shown.lines)}.")
    parts.append("Of each volume the middle slices across its three axes.")
    least, most = np.nanmin(volumes), np.nanmax(volumes)
    parts.append(f"Values from {least:.2f} to {most:.2f}; black is -1, white is 1")
    record = data.get("normalisation", {})
    if "b" not in data and {"low", "high"} <= record.keys():
        parts[-1] += f", in the files' units {record['low']:g} and {record['high']:g}"
        parts[-1] += " (median of the files)" if record.get("per_volume") else ""
    return " ".join(parts) + "."
