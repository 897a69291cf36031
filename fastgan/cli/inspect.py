"""`fastgan inspect`: look at a data set and propose a configuration."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.errors import BadFile

if TYPE_CHECKING:
    from fastgan.data.inspect import Inspection

__all__ = ["add_arguments", "run"]

HEAD = ("file", "shape", "spacing (mm)", "axes", "type", "values", "modality")
PROPOSAL = Path("fastgan-config.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("source", help="folder, manifest.csv, dataset.json or bundled set")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help=f"where the proposed configuration goes (default: {PROPOSAL}, unless it is there)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")


def run(options: argparse.Namespace) -> int:
    """Print what was found and write the proposal; 0 also if some files are refused.

    Raises:
        BadFile: the source cannot be used, or the file named by --write exists.
        ConfigError: the source is a run of a cyclegan.
    """
    from fastgan import config as configuration
    from fastgan.data.inspect import inspect

    target: Path = options.write or PROPOSAL
    if options.write is not None and target.exists():
        raise BadFile(f"{target}: exists already, and nothing is overwritten")
    if (Path(options.source) / "config.yaml").is_file():
        from fastgan.train import RunFolder
        from fastgan.train.load import require_generator

        require_generator(RunFolder(options.source))
    found = inspect(options.source)
    config = configuration.dump(configuration.parse(found.proposal, where="proposal"))
    if options.json:
        import json

        print(json.dumps(found.as_json(), indent=1))
    else:
        _print(found)
    if target.exists():
        # Only the default name can be taken here; the proposal is shown instead.
        print(f"{target} exists and stays as it is; the proposal:", file=sys.stderr)
        print(config, end="", file=sys.stderr)
        return 0
    _write_new(target, config)
    print(f"proposal written to {target}; next: fastgan train --config {target}", file=sys.stderr)
    return 0


def _write_new(target: Path, content: str) -> None:
    try:
        with open(target, "x", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise BadFile(f"{target}: cannot write: {error.strerror or error}") from error


def _print(found: Inspection) -> None:
    rows = [
        (
            file.path,
            " x ".join(map(str, file.shape)),
            " x ".join(f"{size:g}" for size in file.spacing),
            file.orientation,
            file.dtype,
            f"{file.low:g} to {file.high:g}",
            file.modality,
        )
        for file in found.files
    ]
    if rows:
        _print_table(rows)
    for refused in found.refused:
        print(f"refused, {refused.kind}: {refused.reason}")
    for file in found.files:
        for warning in file.warnings:
            print(f"warning: {file.path}: {warning}")
    print(f"{len(found.files)} volumes readable, {len(found.refused)} refused")
    for note in found.notes:
        print(f"note: {note}")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal, tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        for row in (HEAD, *rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*HEAD)
    for row in rows:
        # Text, because a file name may look like markup.
        table.add_row(*map(Text, row))
    Console().print(table)
