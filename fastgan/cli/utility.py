"""`fastgan utility`: is it worth training with generated volumes, and does it harm anybody?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="settings of the study, YAML"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the study; one that was interrupted is gone on with",
    )
    parser.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="this fold alone, from 0, without an answer: for several processes or machines",
    )


def run(options: argparse.Namespace) -> int:
    """Run what is missing and answer; 0 helps, 3 harms, 4 neither shown; 0 too with --fold."""
    from fastgan.cli.process import keep_freed_memory
    from fastgan.utility.report import text
    from fastgan.utility.settings import load
    from fastgan.utility.study import conduct

    keep_freed_memory()
    study = load(options.config)
    done = conduct(study, options.out, fold=options.fold, say=_say)
    if done is None:
        return 0
    task, found = done
    print(text(task, found))
    print(f"report {options.out / 'utility.html'}")
    return found.code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
