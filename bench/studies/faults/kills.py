"""Runs killed at any moment, resumed, killed again: no step is lost, and the bits are the same."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path

from bench.studies.faults.children import Child, outcome_of
from bench.studies.faults.stage import GAMES, Stage, state_of
from fastgan.errors import FastganError
from fastgan.train import checkpoint


class Kills:
    """SIGKILL at a moment drawn over the length of a training, up to three times a run.

    Args:
        stage: games and data.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.wanted, self.seconds = stage, {}, {}
        for game in GAMES:
            start = time.perf_counter()
            # The first loads what every child then has.
            whole = stage.train(game, stage.place / "whole")
            again = time.perf_counter()
            outcome_of(lambda game=game: stage.train(game, stage.place / "timed"))
            self.seconds[game] = min(again - start, time.perf_counter() - again)
            self.wanted[game] = state_of(whole)

    def trial(self, number: int) -> Counter[str]:
        """One run of the game that is due, to its end."""
        rng, game = random.Random(number), [*GAMES][number % len(GAMES)]
        place = self.stage.place / "killed"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        found: Counter[str] = Counter()
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            run = _run_in(place)
            child = Child(lambda run=run: self.stage.train(game, place, resume=run))
            time.sleep(rng.uniform(0.0, self.seconds[game] * 1.1))
            child.kill()
            ended = child.outcome(60.0, killed=True)
            found["kills"] += ended.kind == "killed"
            found["untyped"] += ended.kind in ("untyped", "crash")
            found["hangs"] += ended.kind == "hang"
            found["lost"] += not _whole(place)
        run = _run_in(place)
        last = outcome_of(lambda: self.stage.train(game, place, resume=run))
        found[f"runs of {game}"] += 1
        found["hangs"] += last.kind == "hang"
        found["untyped"] += last.kind in ("untyped", "crash")
        ended_well = last.kind == "done" and state_of(_run_in(place) or place)
        found["other bits"] += ended_well != self.wanted[game]
        return found


def _run_in(place: Path) -> Path | None:
    """The run that was begun; None where it was killed before its folder was one."""
    runs = sorted(path.parent for path in place.glob("*/config.yaml"))
    return runs[-1] if runs else None


def _whole(place: Path) -> bool:
    """Whether every checkpoint that has its final name verifies."""
    for path in place.glob("*/ckpt-*"):
        if path.suffix != ".tmp":
            try:
                checkpoint.read(path)
            except FastganError:
                return False
    return True
