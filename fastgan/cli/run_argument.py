"""The arguments of the verbs that read a run: which run, which checkpoint, on which device."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgan.train import RunFolder
    from fastgan.train.checkpoint import Checkpoint

__all__ = ["add_device", "add_out", "checkpoint_asked"]


def add_out(parser: argparse.ArgumentParser, what: str = "new or empty folder") -> None:
    """`--out DIR`, a folder that is absent or empty."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=what)


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--checkpoint STEP` and `--device NAME`."""
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="default: the newest")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def checkpoint_asked(options: argparse.Namespace) -> tuple[RunFolder, Checkpoint]:
    """The run and the checkpoint of a command line; damaged newer ones are reported.

    Raises:
        StateError, BadFile and its kinds: there is none, or it does not verify.
    """
    from fastgan.train import RunFolder, checkpoint

    folder = RunFolder(options.run)
    if options.checkpoint is not None:
        return folder, checkpoint.read(folder.path / f"ckpt-{options.checkpoint}")
    found = checkpoint.newest(folder.path)
    for reason in found.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    return folder, found
