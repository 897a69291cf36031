"""Plays the categorical game with every loss: `python -m fastgan.examples.toy_game`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fastgan.errors import FastganError
from fastgan.examples.toy_game.game import STEPS, Play, play
from fastgan.examples.toy_game.solution import (
    LOSSES,
    REAL,
    divergence,
    generated,
    optimal_knob,
)
from fastgan.gans import find_objective

INTRODUCTION = """\
Real data are A, B, C with shares 0.6, 0.3, 0.1. The generator draws A with share t, B and C with
(1-t)/2 each, so it cannot match them; each loss settles for another t. Trained by the same
objectives and loop as any 3D GAN, beside the answer on paper:
"""
CLOSING = """\
For contrast: maximum likelihood picks t = 0.6, and the reverse Kullback-Leibler divergence 0.6340.
t* is where the generator gains nothing against the best critic. Minimax follows its divergence to
the minimum; non-saturating and least squares stop beyond theirs, further towards the largest mode.
"""


def table(plays: Sequence[Play]) -> str:
    """A line per game: t trained and on paper, the critic's estimate and the exact value."""
    lines = [("loss", "t trained", "t*", "critic's estimate", "exact at t*", "of")]
    for game in plays:
        objective = find_objective(game.objective)
        best = optimal_knob(objective)
        lines.append(
            (
                game.objective,
                f"{game.shares[-1, 0]:.4f}",
                f"{best:.8f}",
                f"{game.divergence[-1]:.6f}",
                f"{divergence(objective, REAL, generated(best)):.6f}",
                LOSSES[game.objective],
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def record(plays: Sequence[Play]) -> dict[str, dict[str, float]]:
    """Name of a loss -> steps played, t trained and t on paper."""
    return {
        game.objective: {
            "steps": len(game.shares),
            "trained": float(game.shares[-1, 0]),
            "on paper": optimal_knob(find_objective(game.objective)),
        }
        for game in plays
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Play, print the table, draw the page; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fastgan.examples.toy_game", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--out", type=Path, default=Path("toy_game.png"), help="picture (default: toy_game.png)"
    )
    parser.add_argument("--no-plot", action="store_true", help="print the table alone")
    parser.add_argument("--json", type=Path, help="also write steps and both t of each loss")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each game ({STEPS})")
    parser.add_argument("--loss", choices=LOSSES, nargs="+", default=list(LOSSES))
    options = parser.parse_args(argv)
    print(INTRODUCTION)
    try:
        plays = [play(loss, steps=options.steps) for loss in options.loss]
        print(table(plays))
        print(f"\n{CLOSING}")
        if options.json:
            options.json.write_text(json.dumps(record(plays), indent=1) + "\n", encoding="utf-8")
        if not options.no_plot:
            from fastgan.examples.toy_game.plot import draw

            draw(plays, options.out)
            print(f"drawn: {options.out}")
    except FastganError as error:
        print(f"toy_game: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
