"""`fastgan generate`: write volumes from a run's averaged generator."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.cli.run_argument import add_device, add_out, checkpoint_asked

if TYPE_CHECKING:
    from fastgan.train.ranks import Ranks

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="run folder")
    add_out(parser)
    parser.add_argument("--count", type=int, required=True, help="volumes to write")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--label", metavar="NAME", help="class of every volume")
    chosen.add_argument(
        "--labels",
        choices=("prior", "equal"),
        default="prior",
        help="classes as often as in the training data (default), or equally often",
    )
    parser.add_argument("--seed", type=int, default=0, help="of latents and classes (default: 0)")
    parser.add_argument(
        "--format",
        choices=("nifti", "bids", "dicom"),
        default="nifti",
        help="NIfTI files (default), a BIDS derivative, or DICOM series (CT and MR)",
    )
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    """Generate, print where to, return 0."""
    from fastgan.train.ranks import joined

    with joined("generate") as ranks:
        return _generate(options, ranks)


def _generate(options: argparse.Namespace, ranks: Ranks) -> int:
    from fastgan.cli.process import keep_freed_memory
    from fastgan.runs.generate import generate
    from fastgan.runs.passport import SIGNATURE

    keep_freed_memory()
    folder, found = checkpoint_asked(options)
    written = generate(
        folder,
        found,
        options.out,
        count=options.count,
        labels=options.label or options.labels,
        one_class=options.label is not None,
        seed=options.seed,
        device=options.device,
        layout=options.format,
        ranks=ranks,
    )
    if not ranks.first:
        return 0
    if not (options.out / SIGNATURE).exists():
        print(f"not signed: {options.run} does not hold the run's key.pem", file=sys.stderr)
    print(written)
    return 0
