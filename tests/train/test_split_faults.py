"""A holder of a slab that dies, fails or hangs: all end, and one of them says why."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path

import pytest

from fastgan.train import checkpoint, fit
from fastgan.train.progress import Progress
from tests.train.test_ranks_faults import LOST, Faulty, killed, out_of_memory, told
from tests.train.test_split_run import LONG, config
from tests.train.together import Volumes, game, together


def faulty(out: Path, split: int, victim: int, fault: object, batch: int = 7) -> Path:
    data = Faulty((victim,), fault)  # type: ignore[arg-type]
    data.drawn = 7 - batch
    data.shape, data.volumes = LONG, Volumes(shape=LONG).volumes
    settings = config(split, sample_every=50)
    progress = Progress(settings.train.steps, stream=io.StringIO())
    return fit(game({}, shape=LONG), data, settings, out=out, progress=progress).path


@pytest.mark.parametrize(("count", "split", "victim"), [(2, 2, 0), (4, 4, 2), (4, 2, 3)])
def test_a_killed_holder_ends_all_and_is_named(
    tmp_path: Path, count: int, split: int, victim: int
) -> None:
    out, began = tmp_path / "runs", time.monotonic()
    ended = together(count, lambda rank: faulty(out, split, victim, killed), tmp_path / "ranks")
    assert time.monotonic() - began < 30.0
    assert [one.code for one in ended] == [
        -signal.SIGKILL if rank == victim else LOST for rank in range(count)
    ]
    line = told(ended)
    assert "step 4, phase critic: " in line and f"rank {victim} was killed" in line
    (run,) = out.iterdir()
    assert checkpoint.newest(run).step == 2


def test_an_error_of_one_holder_is_told_by_it(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    ended = together(2, lambda rank: faulty(out, 2, 1, out_of_memory), tmp_path / "ranks")
    assert ended[0].code == ended[1].code and "out of device memory" in told(ended)


def test_a_hung_holder_ends_the_others(tmp_path: Path) -> None:
    def hang() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    out, began = tmp_path / "runs", time.monotonic()
    ended = together(
        2,
        lambda rank: faulty(out, 2, 1, hang),
        tmp_path / "ranks",
        left=(1,),
        FASTGAN_RANK_TIMEOUT="3",
    )
    assert ended[0].code == LOST and time.monotonic() - began < 40.0
    assert "rank 1 was killed, ran out of memory, or did not answer for 3 s" in told(ended)


def test_a_holder_may_be_late_in_the_first_step(tmp_path: Path) -> None:
    def slow() -> None:
        time.sleep(5.0)

    out = tmp_path / "runs"
    ended = together(
        2,
        lambda rank: faulty(out, 2, 1, slow, batch=1),
        tmp_path / "ranks",
        FASTGAN_RANK_TIMEOUT="2",
    )
    assert [one.code for one in ended] == [0, 0], ended
