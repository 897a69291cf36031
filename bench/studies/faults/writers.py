"""Two writers at one run folder: one gets in, and the run is what one alone would have made."""

from __future__ import annotations

import random
import time
from collections import Counter

from bench.studies.faults.children import Child, outcome_of
from bench.studies.faults.stage import Stage, fresh, state_of


class Writers:
    """Two to four processes that go on with one run at about the same time, one of them killed.

    Args:
        stage: games and data.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.run = stage.train("wgan", stage.place / "contended-before", 1)
        whole = fresh(self.run, stage.place / "contended-whole")
        stage.train("wgan", whole, 5, resume=whole)
        self.wanted = state_of(whole)

    def trial(self, number: int) -> Counter[str]:
        """One run."""
        rng = random.Random(number)
        run = fresh(self.run, self.stage.place / "contended")
        children = []
        for _ in range(rng.randint(2, 4)):
            children.append(Child(lambda: self.stage.train("wgan", run, 5, resume=run)))
            time.sleep(rng.choice((0.0, 0.0, rng.uniform(0.0, 0.2))))
        if rng.random() < 0.5:
            children[0].kill()
        if rng.random() < 0.3:
            (run / "lock").unlink(missing_ok=True)
        ended = [child.outcome(60.0, killed=True) for child in children]
        found = Counter({"contended runs": 1, "writers": len(ended)})
        for one in ended:
            found[f"writers {one.kind}"] += 1
            found["untyped"] += one.kind in ("untyped", "crash")
            found["hangs"] += one.kind == "hang"
            if one.kind in ("untyped", "crash", "hang"):
                found[f"NOTE writers: {one.text[:300]}"] += 1
        last = outcome_of(lambda: self.stage.train("wgan", run, 5, resume=run))
        found["other bits"] += last.kind != "done" or state_of(run) != self.wanted
        return found
