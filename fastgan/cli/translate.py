"""`fastgan translate`: bring volumes of one domain of a cyclegan to the other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fastgan.cli.run_argument import add_device, add_out, checkpoint_asked

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="cyclegan's folder")
    parser.add_argument(
        "--direction", required=True, metavar="A_to_B|B_to_A", help="domain of the volumes, and to"
    )
    parser.add_argument(
        "--in",
        dest="source",
        type=Path,
        required=True,
        metavar="PATH",
        help="volume, folder of volumes, or manifest.csv",
    )
    add_out(parser)
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of neighbouring windows, 0 <= SHARE < 1 (default: 0.5)",
    )
    parser.add_argument(
        "--pad",
        action="store_true",
        help="mirror volumes that are smaller than the window at their edges, and crop back",
    )
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    """Translate, print where to, return 0, also when an alarm was raised."""
    from fastgan.cli.process import keep_freed_memory
    from fastgan.runs.synthetic import require_empty
    from fastgan.runs.translate import translate

    keep_freed_memory()
    require_empty(options.out)
    folder, found = checkpoint_asked(options)
    written = translate(
        folder,
        found,
        options.source,
        options.out,
        direction=options.direction,
        overlap=options.overlap,
        pad=options.pad,
        device=options.device,
        report=lambda line: print(line, file=sys.stderr),
    )
    print(written)
    return 0
