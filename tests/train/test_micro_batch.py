"""A batch that passes through the networks in parts is one batch: gradients, losses, state."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fastgan.config import parse
from fastgan.errors import ConfigError, RankError, ResourceLimit
from fastgan.random import WHOLE, Shard
from fastgan.train import fit
from fastgan.train.loop import Training
from fastgan.train.parts import Parts, ran_out_of_memory, require_repeatable
from fastgan.train.progress import Progress
from fastgan.train.ranks import joined
from tests.train.test_ranks import AMPLIFIED, BOUND, CASES, GAMES, apart
from tests.train.together import Noted, Volumes, counted, game, results, steps_of, together


def compare(found: list[Noted], wanted: list[Noted], bound: float) -> None:
    assert [one.phase for one in found] == [one.phase for one in wanted]
    for one, whole in zip(found, wanted, strict=True):
        assert one.loss == pytest.approx(whole.loss, rel=bound, abs=bound), one.phase
        assert apart(one.gradients, whole.gradients) <= bound, one.phase


@pytest.mark.parametrize(("name", "classes", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("size", [2, 4])
def test_gradients_are_those_of_the_batch(name: str, classes: Any, dtype: Any, size: int) -> None:
    case: dict[str, Any] = {"classes": classes, "dtype": dtype}
    found = steps_of(GAMES[name], **case, micro_batch=size)
    bound = AMPLIFIED.get((name, dtype), BOUND[dtype])
    compare(found, steps_of(GAMES[name], **case), bound)


@pytest.mark.parametrize(("name", "classes", "dtype"), CASES, ids=str)
def test_passes_that_are_made_again_give_the_same_gradients(
    name: str, classes: Any, dtype: Any
) -> None:
    case: dict[str, Any] = {"classes": classes, "dtype": dtype}
    found = steps_of(GAMES[name], **case, recompute=True, micro_batch=4)
    bound = AMPLIFIED.get((name, dtype), BOUND[dtype])
    compare(found, steps_of(GAMES[name], **case), bound)


def test_three_steps_of_one_volume_at_once() -> None:
    """Updates, weights of spectral norm and the pools go on as those of a whole batch do."""
    for name in ("wgan-gp", "hinge-spectral", "non-saturating-r1-lazy", "cyclegan"):
        case: dict[str, Any] = {"dtype": torch.float64, "steps": 3, "batch": 4}
        found = steps_of(GAMES[name], **case, micro_batch=1)
        # After updates by Adam rounding errors are larger than after one backward pass.
        compare(found, steps_of(GAMES[name], **case), 1e-9)
        found = steps_of(GAMES[name], **case, recompute=True)
        compare(found, steps_of(GAMES[name], **case), 1e-9)


def test_two_ranks_in_parts_are_one_process_and_send_one_message_a_phase(tmp_path: Path) -> None:
    names = ("wgan-gp", "stddev", "cyclegan")

    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.connect(torch.device("cpu"))
            with counted() as sent:
                case: dict[str, Any] = {"dtype": torch.float64, "ranks": ranks, "micro_batch": 2}
                found = {name: steps_of(GAMES[name], **case) for name in names}
        return found, [name for name, _ in sent]

    for found, sent in results(together(2, work, tmp_path)):
        for name in names:
            compare(found[name], steps_of(GAMES[name], dtype=torch.float64), 1e-12)
        assert sent.count("all_reduce") == sum(len(phases) for phases in found.values())
        # The pools of the cyclegan, once for each domain.
        assert len(sent) - sent.count("all_reduce") == 2


def training(settings: dict[str, Any], batch: int = 4, **train: Any) -> Training:
    data = Volumes((), domains=2 if "translator_channels" in settings else 1)
    config = parse({"train": {"batch_size": batch, "device": "cpu"} | train})
    nowhere: Any = SimpleNamespace(path=Path("nowhere"))
    return Training(game(settings), data, config, nowhere, torch.device("cpu"), {})


def test_metrics_are_means_over_the_parts() -> None:
    found = {}
    for size in (None, 2):
        one = training(GAMES["wgan-gp"] | {"critic_steps": 1}, micro_batch=size)
        one.advance()
        found[size] = one.metrics()
    assert found[2].keys() == found[None].keys()
    for name in ("critic/loss", "critic/score_real", "critic/penalty", "critic/gradient_norm"):
        assert found[2][name] == pytest.approx(found[None][name], rel=1e-5)


def test_what_is_read_and_counted_is_the_same() -> None:
    whole, parted = (training(GAMES["wgan-gp"], micro_batch=size) for size in (None, 2))
    read: dict[int, list[tuple[int, str]]] = {}
    for one in (whole, parted):
        seen = read[id(one)] = []
        draw = one.batches._draw
        one.batches._draw = lambda *a, seen=seen, draw=draw: seen.append(a) or draw(*a)  # type: ignore
        one.advance()
    assert read[id(whole)] == read[id(parted)] == [(0, "critic/0"), (0, "critic/1")]
    assert whole.batches.count == parted.batches.count == 8


def test_a_part_of_a_shard_is_a_shard() -> None:
    rows = torch.arange(24)
    for rank in range(2):
        own = Shard(rank, 2)
        parts = [own.part(Shard(i, 3)) for i in range(3)]
        assert torch.equal(torch.cat([part.of(rows) for part in parts]), own.of(rows))
        for i, part in enumerate(parts):
            assert torch.equal(part.of(rows, 2), Shard(i, 3).of(own.of(rows, 2), 2))
        assert own.part(WHOLE) is own


# Memory that runs out.


def hungry(one: Training, most: int, kind: type[Exception] = torch.OutOfMemoryError) -> list[int]:
    """A critic, or G_AB, that holds `most` volumes; every batch that it was given."""
    given: list[int] = []
    network = one.variant.modules.get("critic") or one.variant.modules["G_AB"]
    forward = network.forward

    def limited(x: torch.Tensor, *rest: Any) -> Any:
        given.append(len(x))
        if len(x) > most:
            raise kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3 bytes")
        return forward(x, *rest)

    network.forward = limited  # type: ignore[method-assign]
    return given


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("name", ["wgan-gp", "hinge-spectral", "cyclegan"])
def test_a_step_goes_on_with_half_of_what_did_not_fit(name: str, kind: type[Exception]) -> None:
    cyclic = name == "cyclegan"
    short, told = training(GAMES[name], 4), training(GAMES[name], 4, micro_batch=1)
    # Real and generated volumes pass through a critic together.
    given = hungry(short, 1 if cyclic else 2, kind)
    for _ in range(2):
        short.advance()
        told.advance()
    assert short.parts.size == 1
    assert [line.partition("; ")[2] for line in short.parts.told] == [
        f"from now on train.micro_batch {size}" for size in (2, 1)
    ]
    assert [n for n in given if n > (1 if cyclic else 2)] == ([4, 2] if cyclic else [8, 4])
    # The same bits as one that was told so before: draws, weights, moments, notes, pools, counters.
    for part, tensors in short.tensors().items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, told.tensors()[part][key]), f"{part}/{key}"
    assert short.batches.count == told.batches.count


def test_memory_that_runs_out_late_in_a_phase() -> None:
    """In the third part of four, when two have left gradients and translations."""
    short, told = (training(GAMES["cyclegan"], 8, micro_batch=size) for size in (2, 1))
    network, calls = short.variant.modules["G_BA"], [0]
    forward = network.forward

    def once(x: torch.Tensor) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            raise torch.OutOfMemoryError("out of memory")
        return forward(x)

    network.forward = once  # type: ignore[method-assign]
    short.advance()
    told.advance()
    assert short.parts.size == 1
    for part, tensors in short.tensors().items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, told.tensors()[part][key]), f"{part}/{key}"


def test_where_one_volume_does_not_fit_the_error_says_what_would(tmp_path: Path) -> None:
    one = training(GAMES["wgan-gp"])
    given = hungry(one, 0)
    with pytest.raises(ResourceLimit, match=r"step 1: .*1 volume at once.*recompute.*batch_size 4"):
        one.advance()
    assert given == [8, 4, 2]


def test_groups_stay_whole_when_memory_runs_out() -> None:
    one = training(GAMES["stddev"], 8)
    given = hungry(one, 4)
    one.advance()
    assert one.parts.size == 2 and given[:3] == [16, 8, 4]
    with pytest.raises(ResourceLimit, match="2 volumes at once"):
        hungry(one, 2)
        one.advance()


def test_another_error_is_not_answered() -> None:
    one = training(GAMES["wgan-gp"])

    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    one.variant.modules["critic"].forward = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="shapes"):
        one.advance()
    assert one.parts.size == 4
    for ours in (ValueError("out of memory"), RankError("rank 1 was killed or ran out of memory")):
        assert not ran_out_of_memory(ours)
    assert ran_out_of_memory(RuntimeError("CUDA error: out of memory"))


def test_ranks_end_where_one_of_them_is_out_of_memory(tmp_path: Path) -> None:
    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.connect(torch.device("cpu"))
            config = parse({"train": {"batch_size": 8, "device": "cpu"}})
            variant, nowhere = game(GAMES["wgan-gp"]), SimpleNamespace(path=Path("nowhere"))
            place: Any = nowhere
            one = Training(variant, Volumes(), config, place, torch.device("cpu"), {}, ranks)
            if rank == 1:
                hungry(one, 2)
            one.advance()

    first, second = together(2, work, tmp_path)
    assert first.code == second.code == ResourceLimit.exit_code
    assert "less is needed with a smaller train.micro_batch, train.recompute" in second.stderr


# What cannot be divided, and runs.


@pytest.mark.parametrize(
    ("size", "batch", "group", "said"),
    [
        (3, 8, 0, r"3 does not divide the 8 volumes.*1, 2, 4, 8"),
        (1, 8, 2, r"1 does not divide.*whole groups of model.minibatch_stddev 2; give one of 2, 4"),
        (2, 8, 4, r"give one of 4, 8"),
    ],
)
def test_uneven_parts_are_refused(size: int, batch: int, group: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Parts(game({"minibatch_stddev": group}), batch, size)


def test_networks_and_variants_that_see_the_whole_batch_are_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"TinyVariant does not say `divisible`"):
        Parts(tiny.TinyVariant(), 4, 2)
    variant = game(GAMES["minimax"])
    variant.modules["critic"].add_module("norm", nn.BatchNorm3d(1))
    with pytest.raises(ConfigError, match=r"critic.norm: BatchNorm3d takes its statistics"):
        Parts(variant, 4, 2)
    # Whole batches are not their business, and memory does not divide what cannot be.
    for one in (variant, tiny.TinyVariant()):
        assert Parts(one, 4, None).count == Parts(one, 4, 16).count == 1
        assert not Parts(one, 4, None).halve()


def test_networks_that_draw_are_not_computed_again() -> None:
    variant = game(GAMES["minimax"])
    variant.modules["critic"].add_module("drop", nn.Dropout3d())
    require_repeatable(variant, recompute=False)
    with pytest.raises(ConfigError, match=r"train.recompute: critic.drop: Dropout3d draws"):
        require_repeatable(variant, recompute=True)


def test_a_run_is_refused_before_its_first_step_and_resumed_with_other_parts(
    tmp_path: Path,
) -> None:
    def run(resume: Path | None = None, steps: int = 2, **train: Any) -> Any:
        settings = {"batch_size": 4, "device": "cpu", "steps": steps, "log_every": 1} | train
        quiet = Progress(steps, stream=io.StringIO())
        return fit(
            *(game(GAMES["wgan-gp"]), Volumes(), parse({"train": settings})),
            out=tmp_path,
            resume=resume,
            progress=quiet,
        )

    with pytest.raises(ConfigError, match=r"train.micro_batch: 3"):
        run(micro_batch=3)
    assert not [*tmp_path.iterdir()]
    begun = run(micro_batch=2)
    assert begun.config().train.micro_batch == 2
    gone_on = run(begun.path, steps=3)
    assert gone_on.config().train.micro_batch is None
