"""`fastgan inspect`: look at a data set and propose a configuration."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastgan.errors import BadFile, ConfigError

if TYPE_CHECKING:
    from fastgan.data.inspect import Inspection

__all__ = ["add_arguments", "run"]

HEAD = ("file", "shape", "spacing (mm)", "axes", "type", "values", "modality")
PROPOSAL = Path("fastgan-config.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "source", help="folder, manifest.csv, dataset.json, .npz of volumes, or bundled set"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help=f"where the proposed configuration goes (default: {PROPOSAL}, unless it is there)",
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        action="extend",
        default=[],
        metavar="GLOB",
        help="patterns of paths, names or folders to leave out",
    )
    parser.add_argument(
        "--suffix", metavar="PART", help="only files whose name ends so, as T1w in sub-01_T1w.nii"
    )
    parser.add_argument(
        "--volume",
        type=_volume,
        metavar="N|each",
        help="of 4-D files: which volume, from 0, or each as a volume",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")


def run(options: argparse.Namespace) -> int:
    """Print what was found and write the proposal.

    Returns:
        0; 10 if files are refused, which `train` would refuse too; 2 if the manifest is.

    Raises:
        BadFile: the source cannot be used, or the file named by --write exists.
        ConfigError: the source is a run of a cyclegan.
    """
    from fastgan import config as configuration
    from fastgan.data.inspect import inspect
    from fastgan.data.listing import Selection

    target: Path = options.write or PROPOSAL
    if options.write is not None and target.exists():
        raise BadFile(f"{target}: exists already, and nothing is overwritten")
    if (Path(options.source) / "config.yaml").is_file():
        from fastgan.train import RunFolder
        from fastgan.train.load import require_generator

        require_generator(RunFolder(options.source))
    selection = Selection(options.suffix, tuple(options.exclude), options.volume)
    found = inspect(options.source, selection=selection)
    config = configuration.dump(configuration.parse(found.proposal, where="proposal"))
    if options.json:
        import json

        print(json.dumps(found.as_json(), indent=1))
    else:
        _print(found)
    code = _verdict(found, options)
    if target.exists():
        # Only the default name can be taken here; the proposal is shown instead.
        print(f"{target} exists and stays as it is; the proposal:", file=sys.stderr)
        print(config, end="", file=sys.stderr)
        return code
    _write_new(target, config)
    print(f"proposal written to {target}; next: fastgan train --config {target}", file=sys.stderr)
    return code


def _volume(text: str) -> int | Literal["each"]:
    if text == "each":
        return "each"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number from 0, or each, is meant, got {text!r}")
    return int(text)


def _verdict(found: Inspection, options: argparse.Namespace) -> int:
    """The exit code; says how to go on without the files that are refused."""
    if found.refused:
        command = ["fastgan", "inspect", options.source]
        if options.suffix is not None:
            command += ["--suffix", options.suffix]
        if options.volume is not None:
            command += ["--volume", str(options.volume)]
        patterns = [*options.exclude, *(refused.pattern for refused in found.refused)]
        print(
            f"fastgan: {len(found.refused)} files are refused, and train refuses to start with "
            f"them; to leave them out: {shlex.join([*command, '--exclude', *patterns])}",
            file=sys.stderr,
        )
        return BadFile.exit_code
    if found.summary is not None and found.summary.problems:
        print(f"fastgan: {found.source}: {found.summary.problems[0]}", file=sys.stderr)
        return ConfigError.exit_code
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
    if found.summary is not None:
        print("volumes (subjects):")
        for line in found.summary.lines():
            print(f"  {line}")
        for problem in found.summary.problems:
            print(f"problem: {problem}")
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
