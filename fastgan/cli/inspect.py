"""`fastgan inspect`: look at a data set and propose a configuration."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastgan.cli.plan import DEFAULT_HOURS, add_budget, bytes_of, lines_of, say
from fastgan.errors import BadFile, ConfigError, ResourceLimit
from fastgan.terminal import counted, escaped, terminal_of

if TYPE_CHECKING:
    from fastgan.config import Config
    from fastgan.data.inspect import Inspection
    from fastgan.runs.plan import Plan

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
        help=f"where the proposed configuration goes (default: {PROPOSAL}, or -2, -3 and so on)",
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
    parser.add_argument(
        "--subjects",
        choices=("names", "folders"),
        help="who a volume is of: its name or header says, or the folder it lies in",
    )
    add_budget(parser)
    parser.add_argument(
        "--no-plan",
        action="store_true",
        help="propose without trying what this machine can train in the time",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")


def run(options: argparse.Namespace) -> int:
    """Print what was found and, where nothing is refused, write the proposal.

    Returns:
        0; 10 if files are refused, which `train` would refuse too; 2 if the manifest is.

    Raises:
        BadFile: the source cannot be used, or the file named by --write exists.
        ConfigError: the source is a run of a cyclegan, or the budget cannot be.
        ResourceLimit: nothing that this machine could train within the budget.
    """
    from fastgan import config as configuration
    from fastgan.data.inspect import inspect
    from fastgan.data.listing import Selection
    from fastgan.runs.plan import check_budget

    check_budget(options.hours, bytes_of(options.memory))
    if options.write is not None and options.write.exists():
        raise BadFile(f"{options.write}: exists already, and nothing is overwritten")
    if (Path(options.source) / "config.yaml").is_file():
        from fastgan.train import RunFolder
        from fastgan.train.load import require_generator

        require_generator(RunFolder(options.source))
    selection = Selection(options.suffix, tuple(options.exclude), options.volume, options.subjects)
    found = inspect(options.source, selection=selection)
    config = configuration.parse(found.proposal, where="proposal")
    if not options.json:
        _print(found)
    code = _verdict(found, options)
    # What is refused keeps the training from starting, so there is nothing to plan or write yet.
    plan = None if code or options.no_plan else _plan(config, options)
    if plan is not None:
        config = plan.config
    if options.json:
        import json

        planned = {"plan": None if plan is None else plan.as_json()}
        print(json.dumps(found.as_json() | planned, indent=1))
    elif plan is not None:
        print("\n".join(["", *lines_of(plan)]))
    if code:
        return code
    target = _write_new(options.write, configuration.dump(config))
    taken = "" if target in (options.write, PROPOSAL) else f"{PROPOSAL} exists and stays as it is; "
    print(
        f"{taken}proposal written to {target}; next: fastgan train --config {target}",
        file=sys.stderr,
    )
    return code


def _plan(config: Config, options: argparse.Namespace) -> Plan:
    from fastgan.runs.plan import plan_for

    try:
        return plan_for(config, hours=options.hours, memory=bytes_of(options.memory), progress=say)
    except ResourceLimit as error:
        raise ResourceLimit(f"{error}; --no-plan proposes without trying") from error


def _volume(text: str) -> int | Literal["each"]:
    if text == "each":
        return "each"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number from 0, or each, is meant, got {text!r}")
    return int(text)


def _verdict(found: Inspection, options: argparse.Namespace) -> int:
    """The exit code; says how to go on without the files that are refused."""
    if found.refused:
        command = ["fastgan", "inspect", options.source, *_given(options)]
        patterns = [*options.exclude, *(refused.pattern for refused in found.refused)]
        without = shlex.join([*command, "--exclude", *patterns])
        print(
            f"fastgan: refused: {counted(len(found.refused), 'file')}, and train does not start "
            f"so; to leave out what is refused: {without}",
            file=sys.stderr,
        )
        return BadFile.exit_code
    if found.summary is not None and found.summary.problems:
        print(f"fastgan: {found.source}: {found.summary.problems[0]}", file=sys.stderr)
        return ConfigError.exit_code
    return 0


def _given(options: argparse.Namespace) -> list[str]:
    """The flags of this command line but --exclude, to be given again."""
    given = []
    for name in ("suffix", "volume", "subjects", "hours", "memory", "write"):
        value = getattr(options, name)
        if value is not None and (name != "hours" or value != DEFAULT_HOURS):
            given += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return given + ["--no-plan"] * options.no_plan + ["--json"] * options.json


def _write_new(chosen: Path | None, content: str) -> Path:
    """Write where nothing is yet: to the file that was chosen, else to the first free name."""
    number = 1
    while True:
        numbered = PROPOSAL if number == 1 else PROPOSAL.with_stem(f"{PROPOSAL.stem}-{number}")
        target = chosen or numbered
        try:
            with open(target, "x", encoding="utf-8") as file:
                file.write(content)
            return target
        except FileExistsError as error:
            if chosen is not None:
                raise BadFile(f"{target}: exists already, and nothing is overwritten") from error
            number += 1
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
    print(f"{counted(len(found.files), 'volume')} readable, {len(found.refused)} refused")
    if found.summary is not None:
        print("volumes (subjects):")
        for line in found.summary.lines():
            print(f"  {line}")
        for problem in found.summary.problems:
            print(f"problem: {problem}")
    for note in (*found.notes, *_what_the_audit_lacks(found)):
        print(f"note: {note}")


def _what_the_audit_lacks(found: Inspection) -> list[str]:
    """What keeps most questions of an audit from an answer, told before days of training."""
    from fastgan.audit.rules import whole

    if found.summary is None or "holdout" not in (split := found.summary.groups["split"]):
        return []
    subjects, volumes = whole("audit.least_to_fit"), whole("memorization.copies.least_null")
    held = split["holdout"].subjects
    lacking = []
    if held < subjects:
        share = math.ceil(100 * (subjects + 1) / found.summary.subjects) / 100
        how = f"; data.holdout: {share:g} holds out about as many" if share <= 0.5 else ""
        lacking.append(f"{subjects} held-out subjects for most questions, not {held}{how}")
    if found.summary.volumes < volumes:
        lacking.append(f"{volumes} volumes to tell copies, not {found.summary.volumes}")
    return [f"the audit needs {', and '.join(lacking)}"] if lacking else []


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
        table.add_row(*(Text(escaped(cell)) for cell in row))
    Console(file=terminal_of(sys.stdout)).print(table)
