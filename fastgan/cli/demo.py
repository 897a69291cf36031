"""`fastgan demo`: the whole way on the bundled nodules, from training to a judgement."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_arguments", "run"]

SETTINGS = {"quick": "nodules_32.yaml", "quality": "nodules_48.yaml"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="folder for everything it makes"
    )
    parser.add_argument(
        "--setting",
        choices=SETTINGS,
        default="quick",
        help="quick: 32^3 in minutes (default); quality: 48^3 in about an hour",
    )
    parser.add_argument("--count", type=int, default=500, help="volumes to generate")
    parser.add_argument("--steps", type=int, help="train for fewer steps than the setting says")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Train (or go on training), generate, compare, draw; returns 0."""
    from fastgan.cli.process import keep_freed_memory
    from fastgan.runs.demo import demo

    keep_freed_memory()
    made = demo(
        options.out,
        SETTINGS[options.setting],
        count=options.count,
        steps=options.steps,
        seed=options.seed,
        command=["fastgan", *sys.argv[1:]],
        report=lambda line: print(line, file=sys.stderr),
    )
    print(f"\n{made.comparison.read_text(encoding='utf-8')}")
    print(f"run        {made.run}\nvolumes    {made.manifest.parent}\nmanifest   {made.manifest}")
    print(f"comparison {made.comparison}\nmontage    {made.montage}")
    return 0
