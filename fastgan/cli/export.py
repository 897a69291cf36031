"""`fastgan export`: a run's network for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastgan.cli.run_argument import add_out, checkpoint_asked

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="run folder")
    add_out(parser)
    parser.add_argument(
        "--format",
        choices=("safetensors", "torch", "onnx"),
        required=True,
        help="weights, a program that needs PyTorch alone, or ONNX (extra onnx)",
    )
    parser.add_argument(
        "--direction", choices=("A_to_B", "B_to_A"), help="which translator of a cyclegan"
    )
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="default: the newest")


def run(options: argparse.Namespace) -> int:
    """Export, print the file, return 0."""
    from fastgan.runs.export import export

    folder, found = checkpoint_asked(options)
    print(export(folder, found, options.out, kind=options.format, direction=options.direction))
    return 0
