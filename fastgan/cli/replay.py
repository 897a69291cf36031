"""`fastgan replay`: the same seeds, the same bits?"""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what generate wrote")
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="the run it is of")
    parser.add_argument("--count", type=int, help="volumes, from the first (default: all)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def run(options: argparse.Namespace) -> int:
    """Generate again and compare; 0 same bits, 3 others, 4 others on another machine."""
    from fastgan.cli.process import keep_freed_memory
    from fastgan.runs.replay import replay
    from fastgan.terminal import one_line
    from fastgan.train.run_folder import RunFolder

    keep_freed_memory()
    found = replay(
        options.folder, RunFolder(options.run), count=options.count, device=options.device
    )
    print("\n".join(map(one_line, found.lines)))
    print(f"\n{found.equal} of {len(found.lines)} volumes have the same bits")
    for name, (then, now) in found.differing.items():
        print(one_line(f"{name} was {then}, is {now}"))
    return found.exit_code
