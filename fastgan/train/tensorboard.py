"""TensorBoard files of a run, on request: a copy of metrics.jsonl and of the sample pictures."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from fastgan.errors import ConfigError
from fastgan.guarded import open_plain
from fastgan.pictures.slices import read_png
from fastgan.train.samples import sample_pictures

__all__ = ["TensorBoardFiles", "require_writer"]


def require_writer() -> Any:
    """The class that writes event files.

    Raises:
        ConfigError: tensorboardX (the `tb` extra) is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "train.tensorboard: needs tensorboardX; install it with pip install 'fastgan[tb]'"
        ) from error
    return SummaryWriter


class TensorBoardFiles:
    """Follows a run folder from now on, into its subfolder `tensorboard`.

    A resumed run goes on in a new file, whose first event voids what an earlier process wrote of
    later steps, so that no step is shown twice.

    Args:
        run: the run folder, whose metrics.jsonl ends with `step`.
        step: steps done.

    Raises:
        ConfigError: tensorboardX is not installed.
    """

    def __init__(self, run: Path, step: int) -> None:
        # Of event files that are no event files its logger warns on every start.
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)
        self._run, self._pictured = run, step
        folder = run / "tensorboard"
        # A file's name has its second in it, which two processes may share; this tells them apart.
        suffix = f".{len([*folder.glob('*')])}"
        self._writer = require_writer()(str(folder), purge_step=step + 1, filename_suffix=suffix)
        self._read = (run / "metrics.jsonl").stat().st_size

    def refresh(self, step: int) -> None:
        """Copy what the run has written since the last call."""
        with open_plain(self._run / "metrics.jsonl") as file:
            file.seek(self._read)
            fresh = file.read()
        whole = fresh.rfind(b"\n") + 1
        self._read += whole
        for line in fresh[:whole].splitlines():
            row: dict[str, float | None] = json.loads(line)
            at = row.pop("step")
            for name, value in row.items():
                if value is not None:
                    self._writer.add_scalar(name, value, at)
        for at, path in sample_pictures(self._run, step).items():
            if at > self._pictured:
                self._writer.add_image("samples", read_png(path)[0], at, dataformats="HW")
                self._pictured = at

    def close(self) -> None:
        """Put everything on the disk."""
        self._writer.close()
