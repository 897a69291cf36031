"""`fastgan verify`: whose is this volume, and is it whole?"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="what generate or translate wrote"
    )
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--run", type=Path, metavar="RUN", help="the run it should be of")
    known.add_argument("--key", type=Path, metavar="FILE", help="key.pub of that run")


def run(options: argparse.Namespace) -> int:
    """Say of every volume where it stands; 0 as signed, 3 something is not, 4 nobody signed."""
    from fastgan.errors import StateError
    from fastgan.runs.verify import verify
    from fastgan.terminal import one_line
    from fastgan.train.run_folder import RunFolder
    from fastgan.train.run_key import public_key, read_public

    key = None
    if options.key is not None:
        key = read_public(options.key, follow=True)
    elif options.run is not None:
        key = public_key(RunFolder(options.run).path)
        if key is None:
            raise StateError(f"{options.run}: has no key.pub; it was begun before runs had keys")
    found = verify(options.folder, key)
    for one in found.checked:
        print(one_line(f"{one.standing:<8}  {one.path}  {one.about}"))
    counts = Counter(one.standing for one in found.checked)
    print(f"\n{', '.join(f'{n} {standing}' for standing, n in counts.items())}; {found.signature}")
    return found.exit_code
