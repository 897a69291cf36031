"""A volume that several ranks hold together trains as one that a process holds alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from fastgan.train.loop import Training
from fastgan.train.ranks import joined
from tests.train.test_ranks import AMPLIFIED, BOUND, GAMES, KINDS, apart
from tests.train.together import counted, results, steps_of, together

LONG = (16, 8, 8)
RESIDUAL = {"architecture": "residual", "critic_norm": "layer", "generator_norm": "group"}
SPLIT: dict[str, dict[str, Any]] = {name: GAMES[name] for name in GAMES if name != "cyclegan"}
SPLIT |= {
    "residual-smooth": RESIDUAL | {"smooth_output": True, "augment": ("flip", "shift")},
    "one-sided": {"one_sided": True, "critic_norm": "instance"},
    "folded": {"fold": (2, 2, 2)},
}
CASES: list[tuple[str, tuple[str, ...], torch.dtype]] = [
    (name, classes, dtype)
    for name, classes in [
        *((name, ()) for name in SPLIT),
        *((name, KINDS) for name in ("wgan-gp", "stddev", "residual-smooth")),
    ]
    for dtype in BOUND
    # As in test_ranks: in float32 one process is itself 2e-5 from float64.
    if (name, dtype) != ("stddev-penalty", torch.float32)
]


def shape_of(name: str, count: int) -> tuple[int, int, int]:
    """Of volumes whose coarsest grid has a plane for each part."""
    return (32, 8, 8) if name == "folded" and count == 4 else LONG


def split_steps(count: int, parts: int, folder: Path, **given: Any) -> list[dict[Any, Any]]:
    """What every rank hands to its optimisers, by case, of `count` ranks with `parts` slabs."""

    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.split([parts, 1, 1])
            ranks.connect(torch.device("cpu"))
            return {
                case: steps_of(
                    SPLIT[case[0]],
                    classes=case[1],
                    dtype=case[2],
                    ranks=ranks,
                    shape=shape_of(case[0], parts),
                )
                for case in given.get("cases", CASES)
            }

    return results(together(count, work, folder, seconds=150.0))


def compare(every: list[dict[Any, Any]], parts: int) -> None:
    for case, phases in every[0].items():
        name, classes, dtype = case
        for other in every[1:]:
            for one, same in zip(phases, other[case], strict=True):
                assert one.loss == same.loss, case
                assert all(map(torch.equal, one.gradients, same.gradients)), case
        shape = shape_of(name, parts)
        wanted = steps_of(SPLIT[name], classes=classes, dtype=dtype, shape=shape)
        bound = AMPLIFIED.get((name, dtype), BOUND[dtype])
        assert [one.phase for one in phases] == [one.phase for one in wanted]
        for one, alone in zip(phases, wanted, strict=True):
            assert one.loss == pytest.approx(alone.loss, rel=bound, abs=bound), (case, one.phase)
            found = apart(one.gradients, alone.gradients)
            assert found <= bound, (case, one.phase, found)


@pytest.mark.parametrize("count", [2, 4])
def test_gradients_are_those_of_one_process(count: int, tmp_path: Path) -> None:
    compare(split_steps(count, count, tmp_path), count)


def test_beside_ranks_that_share_the_batch(tmp_path: Path) -> None:
    # Two halves of the batch, each of two slabs.
    cases = [case for case in CASES if case[2] == torch.float64]
    compare(split_steps(4, 2, tmp_path, cases=cases), 2)


def test_an_axis_that_is_not_halved(tmp_path: Path) -> None:
    # Along the first axis kernels of three and no stride: the generator halves across alone.
    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.split([2, 1, 1])
            ranks.connect(torch.device("cpu"))
            return steps_of({}, dtype=torch.float64, ranks=ranks, shape=(4, 16, 16))

    found = results(together(2, work, tmp_path))[0]
    wanted = steps_of({}, dtype=torch.float64, shape=(4, 16, 16))
    assert all(apart(a.gradients, b.gradients) <= 1e-12 for a, b in zip(found, wanted, strict=True))


def test_bfloat16_is_within_its_rounding(tmp_path: Path) -> None:
    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.split([2, 1, 1])
            ranks.connect(torch.device("cpu"))
            return steps_of({}, ranks=ranks, shape=LONG, precision="bfloat16")

    found = results(together(2, work, tmp_path))[0]
    exact = steps_of({}, shape=LONG)
    alone = steps_of({}, shape=LONG, precision="bfloat16")
    for one, other, right in zip(found, alone, exact, strict=True):
        rounding = apart(other.gradients, right.gradients)
        assert apart(one.gradients, right.gradients) <= 1.5 * rounding


def test_messages_are_planes_sums_and_one_of_gradients(tmp_path: Path) -> None:
    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.split([2, 1, 1])
            ranks.connect(torch.device("cpu"))
            with counted() as seen:
                phases = steps_of({"critic_steps": 1}, ranks=ranks, measured=False, shape=LONG)
        return seen, [sum(g.nbytes for g in one.gradients) for one in phases]

    def planes(batch: int, channels: int, side: int) -> tuple[str, int]:
        """What a neighbour is sent: one plane."""
        return ("batch_isend_irecv", 4 * batch * channels * side**2)

    def total(batch: int, rows: int = 1) -> tuple[str, int]:
        return ("all_reduce", 4 * rows * batch)

    def statistics(channels: int) -> tuple[str, int]:
        """Mean and variance."""
        return ("all_gather", 4 * 2 * 8 * channels)

    # Channels and sides: generator 8 of 4 x 4, 4 of 8 x 8; critic 1 of 8 x 8, 4 of 4 x 4.
    generated = [statistics(8), planes(8, 8, 4), statistics(4), planes(8, 4, 8)]

    def scored(batch: int) -> list[tuple[str, int]]:
        return [planes(batch, 1, 8), planes(batch, 4, 4), total(batch)]

    critic = [
        *(*generated, *scored(16)),
        # The penalty's slope, back to the volumes, and its square.
        *(*scored(8), *reversed(scored(8)), total(8)),
        # Backward through the square and the slope, then through the scores to the second stage.
        *(total(8), *scored(8)[:2], total(16), planes(16, 4, 4)),
    ]
    generator = [
        *(*generated, *scored(8), *reversed(scored(8))),
        # Two sums of a norm's backward.
        *(planes(8, 4, 8), total(8, rows=2 * 4), planes(8, 8, 4), total(8, rows=2 * 8)),
    ]
    for seen, sizes in results(together(2, work, tmp_path)):
        # Beside the gradients: the loss, and one number for each signal.
        of_critic, of_generator = [("all_reduce", size + 3 * 4) for size in sizes]
        assert seen == [*critic, of_critic, *generator, of_generator]


WIDE = (64, 32, 32)
DEEP = {"critic_channels": (8, 16, 16), "generator_channels": (16, 16, 8), "critic_steps": 1}
# Of one process's peak. Each slab has its halos, and its norms keep their outputs, too.
SHARE = {2: 0.7, 4: 0.4}


def peak_of_a_step(**given: Any) -> int:
    """Bytes that a step holds at most, beside what was there before it."""
    advance, found = Training.advance, []

    def measured(training: Training) -> None:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            advance(training)
        events = seen.profiler.kineto_results.events()  # type: ignore[union-attr]
        now = top = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            if event.name() == "[memory]":
                now += event.nbytes()
                top = max(top, now)
        found.append(top)

    with patch.object(Training, "advance", measured):
        steps_of(DEEP, batch=4, measured=False, shape=WIDE, **given)
    return found[0]


@pytest.mark.parametrize("count", SHARE)
def test_each_holds_its_share_of_a_step(count: int, tmp_path: Path) -> None:
    def work(rank: int) -> int:
        with joined() as ranks:
            ranks.split([count, 1, 1])
            ranks.connect(torch.device("cpu"))
            return peak_of_a_step(ranks=ranks)

    whole = results(together(1, lambda rank: peak_of_a_step(), tmp_path / "one"))[0]
    shares = [peak / whole for peak in results(together(count, work, tmp_path / "parts"))]
    assert max(shares) <= SHARE[count], shares
