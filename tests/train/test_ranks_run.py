"""Whole runs by several ranks: what they leave, how they go on, and how they stop."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fastgan.config import Config, parse
from fastgan.train import checkpoint, fit
from fastgan.train.progress import Progress
from tests.train.tiny_run import rows, same_state
from tests.train.together import Volumes, game, results, together

STEPS = 6


def config(**train: Any) -> Config:
    defaults = {
        "steps": STEPS,
        "batch_size": 4,
        "device": "cpu",
        "deterministic": True,
        "checkpoint_every": 2,
        "keep_checkpoints": 5,
        "sample_every": 3,
        "log_every": 1,
    }
    return parse({"name": "ranks", "train": defaults | train})


class Poisoned(Volumes):
    """The same volumes, of which one is NaN."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.volumes[position] = torch.nan


def trained(out: Path, data: Any = None, resume: Path | None = None, **train: Any) -> Path:
    """Train in this process, as a rank where torchrun's variables say so; the run folder."""
    told = io.StringIO()
    settings = config(**train)
    progress = Progress(settings.train.steps, stream=told)
    run = fit(game({}), data or Volumes(), settings, out=out, resume=resume, progress=progress)
    assert (told.getvalue() != "") == (os.environ.get("RANK", "0") == "0")
    return run.path


def by_ranks(count: int, out: Path, **arguments: Any) -> Path:
    """Train by so many ranks; the run folder, which all of them name."""
    ended = together(
        count, lambda rank: trained(out, **arguments), out.parent / f"{out.name}-ranks"
    )
    paths = {Path(path) for path in results(ended)}
    assert len(paths) == 1 and all(one.stderr == "" for one in ended)
    return paths.pop()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of six steps by two ranks."""
    return by_ranks(2, tmp_path_factory.mktemp("two") / "runs")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by one process."""
    return trained(tmp_path_factory.mktemp("alone"))


def test_the_folder_is_that_of_one_process(two: Path, alone: Path) -> None:
    assert {p.name for p in two.iterdir()} == {p.name for p in alone.iterdir()}
    assert {p.name for p in two.glob("*/*")} == {p.name for p in alone.glob("*/*")}
    found, wanted = checkpoint.newest(two), checkpoint.newest(alone)
    assert found.counters == wanted.counters
    assert [*two.parent.iterdir()] == [two]
    for row, other in zip(rows(two), rows(alone), strict=True):
        assert row.keys() == other.keys()
    # Before the first update both have the same networks.
    first, other = rows(two)[0], rows(alone)[0]
    for key in ("critic/penalty", "critic/gradient_norm", "critic/score_real", "generator/loss"):
        assert first[key] == pytest.approx(other[key], rel=1e-4), key


def test_runs_of_as_many_ranks_are_the_same_bits(two: Path, tmp_path: Path) -> None:
    again = by_ranks(2, tmp_path / "runs")
    assert rows(again) == rows(two)
    same_state(again, two)


def test_resumed_by_as_many_ranks_bit_for_bit(two: Path, tmp_path: Path) -> None:
    half = by_ranks(2, tmp_path / "runs", steps=3)
    by_ranks(2, tmp_path / "more", resume=half)
    assert rows(half) == rows(two)
    same_state(half, two)


@pytest.mark.parametrize("count", [1, 4])
def test_resumed_by_another_number_of_ranks(two: Path, tmp_path: Path, count: int) -> None:
    half = by_ranks(2, tmp_path / "runs", steps=3)
    if count == 1:
        trained(tmp_path, resume=half)
    else:
        by_ranks(count, tmp_path / "more", resume=half)
    assert checkpoint.newest(half).counters == checkpoint.newest(two).counters
    for row, other in zip(rows(half), rows(two), strict=True):
        if row["step"] <= 3:
            assert row == other
        else:
            assert row["critic/penalty"] == pytest.approx(other["critic/penalty"], rel=1e-2)


def test_what_one_rank_cannot_use_all_leave_out(tmp_path: Path) -> None:
    # One NaN among twelve volumes is in the rows of either rank, now and then.
    data = Poisoned(5)
    run = by_ranks(2, tmp_path / "runs", data=data, non_finite="skip")
    one = trained(tmp_path / "one", data=data, non_finite="skip")
    skipped = checkpoint.newest(run).counters["skipped"]
    assert skipped == checkpoint.newest(one).counters["skipped"] and 0 < skipped["critic"] < 12


def test_policy_stop_ends_all_ranks_with_one_message(tmp_path: Path) -> None:
    data = Poisoned(5)
    ended = together(2, lambda rank: trained(tmp_path / "runs", data), tmp_path / "ranks")
    assert [one.code for one in ended] == [14, 14]
    assert "step 2, phase critic" in ended[0].stderr or "phase critic" in ended[0].stderr
    assert ended[1].stderr == ""
    # The error names volumes of the whole batch, not the rows of the rank that tells it.
    assert " 5" in ended[0].stderr.partition("data set: ")[2]


@pytest.mark.parametrize("signalled", [[0], [1], [0, 1]])
def test_a_signal_to_any_rank_ends_all_after_the_same_step(
    tmp_path: Path, signalled: list[int]
) -> None:
    class Signalling(Volumes):
        def sample(self, batch_size: int, rng: Any) -> Any:
            self.drawn = getattr(self, "drawn", 0) + 1
            if self.drawn == 10 and int(os.environ["RANK"]) in signalled:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().sample(batch_size, rng)

    out = tmp_path / "runs"
    arguments = {"steps": 100, "checkpoint_every": 50, "sample_every": 50}
    ended = together(2, lambda rank: trained(out, Signalling(), **arguments), tmp_path / "ranks")
    assert [one.code for one in ended] == [143, 143]
    (run,) = out.iterdir()
    # Two batches a step: the tenth is drawn in the fifth.
    assert checkpoint.newest(run).step == len(rows(run)) == 5
    assert sorted(p.name for p in run.glob("ckpt-*")) == ["ckpt-0", "ckpt-5"]
