"""Whole runs on slabs: what they leave, how they go on with other slabs, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.config import Config, parse
from fastgan.errors import ConfigError
from fastgan.gans import CycleSettings, build_cycle
from fastgan.gans.augment import Augment
from fastgan.slabs import Slabs
from fastgan.train import checkpoint, fit
from fastgan.train.fit import rehearse
from fastgan.train.progress import Progress
from fastgan.train.ranks import Ranks, joined
from tests.train.tiny_run import TinyDataset, TinyVariant, rows, same_state
from tests.train.together import Volumes, game, results, together

LONG = (16, 8, 8)
STEPS = 4


def config(split: int | list[int], **train: Any) -> Config:
    defaults = {
        "steps": STEPS,
        "batch_size": 4,
        "device": "cpu",
        "deterministic": True,
        "checkpoint_every": 2,
        "keep_checkpoints": 5,
        "sample_every": 2,
        "log_every": 1,
        "split": [split, 1, 1] if isinstance(split, int) else split,
    }
    return parse({"name": "split", "train": defaults | train})


def trained(out: Path, split: int = 1, resume: Path | None = None, **train: Any) -> Path:
    """Train in this process, as a rank where torchrun's variables say so; the run folder."""
    settings = config(split, **train)
    progress = Progress(settings.train.steps, stream=io.StringIO())
    variant, data = game({"augment": ("flip", "shift")}, shape=LONG), Volumes(shape=LONG)
    run = fit(variant, data, settings, out=out, resume=resume, progress=progress)
    # It is whole again: a process by itself can go on with it.
    assert variant.sample(2).shape == (2, 1, *LONG)  # type: ignore[attr-defined]
    return run.path


def by_ranks(count: int, split: int, out: Path, **arguments: Any) -> Path:
    """Train by so many ranks; the run folder, which all of them name."""
    folder = out.parent / f"{out.name}-ranks"
    ended = together(count, lambda rank: trained(out, split, **arguments), folder)
    (path,) = {Path(path) for path in results(ended)}
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run by two ranks that hold a half each."""
    return by_ranks(2, 2, tmp_path_factory.mktemp("two") / "runs")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by one process."""
    return trained(tmp_path_factory.mktemp("alone"))


# Of volumes that are shared by ranks, too, the mean of what each finds among its own.
OF_A_BATCH = {"critic/collapse", "critic/similarity_real", "critic/similarity_fake"}
OF_A_BATCH |= {"critic/balance_ratio"}


def alike(found: Path, wanted: Path, *, shared: bool = False) -> None:
    """Fail unless metrics of every kind are the same to a few roundings."""
    for row, other in zip(rows(found), rows(wanted), strict=True):
        assert row.keys() == other.keys() > OF_A_BATCH
        for key, value in other.items():
            if shared and row["step"] > STEPS // 2 and key in OF_A_BATCH:
                continue
            assert row[key] == pytest.approx(value, rel=1e-3, abs=1e-4), (row["step"], key)


def test_the_folder_is_that_of_one_process(two: Path, alone: Path) -> None:
    assert {p.name for p in two.glob("*/*")} == {p.name for p in alone.glob("*/*")}
    found, wanted = checkpoint.newest(two), checkpoint.newest(alone)
    assert found.counters == wanted.counters and found.identity == wanted.identity
    for part, tensors in wanted.parts.items():
        assert found.parts[part].keys() == tensors.keys()
        assert all(found.parts[part][key].shape == t.shape for key, t in tensors.items())
    alike(two, alone)


def test_pictures_are_of_whole_volumes(two: Path, alone: Path) -> None:
    from PIL import Image

    for name in [path.name for path in (alone / "samples").glob("*.png")]:
        found, wanted = (
            np.asarray(Image.open(run / "samples" / name), np.int16) for run in (two, alone)
        )
        assert found.shape == wanted.shape
        # Weights that differ by roundings: hardly a grey value.
        assert np.abs(found - wanted).max() <= 2, name


def test_runs_of_as_many_slabs_are_the_same_bits(two: Path, tmp_path: Path) -> None:
    again = by_ranks(2, 2, tmp_path / "runs")
    assert rows(again) == rows(two)
    same_state(again, two)


@pytest.mark.parametrize(("count", "split"), [(2, 2), (4, 4), (4, 2), (2, 1), (1, 1)])
def test_resumed_with_other_slabs(two: Path, tmp_path: Path, count: int, split: int) -> None:
    half = by_ranks(2, 2, tmp_path / "runs", steps=2)
    if count == 1:
        trained(tmp_path, resume=half)
    else:
        by_ranks(count, split, tmp_path / "more", resume=half)
    assert checkpoint.newest(half).counters == checkpoint.newest(two).counters
    if count == split == 2:
        assert rows(half) == rows(two)
        same_state(half, two)
    else:
        alike(half, two, shared=split < count)


def test_a_flip_across_slabs_is_that_of_whole_volumes(tmp_path: Path) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 1, *LONG)))

    def moved(slabs: Slabs) -> torch.Tensor:
        augment = Augment(("flip", "shift", "intensity"))
        augment.slabs = slabs
        return augment(slabs.own(x, 2), np.random.default_rng(1))

    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.split([2, 1, 1])
            ranks.connect(torch.device("cpu"))
            return moved(ranks.slabs)

    wanted = moved(Slabs())
    assert torch.equal(torch.cat(results(together(2, work, tmp_path)), 2), wanted)
    # Some of them cross the border between the slabs.
    assert not torch.equal(wanted[:, :, :8], moved(Slabs())[:, :, :8].flip(2))


REFUSED: dict[str, tuple[list[int], str]] = {
    "too few processes": (
        [2, 1, 1],
        r"train\.split: \[2, 1, 1\] needs 2 processes, or a multiple, and there is 1; start "
        r"torchrun with --nproc-per-node 2$",
    ),
    "another axis": (
        [1, 2, 1],
        r"train\.split: volumes can be split along the first axis, got \[1, 2, 1\]; give \[2, 1, 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_one_process(case: str, tmp_path: Path) -> None:
    split, message = REFUSED[case]
    settings = config(split)
    for act in (fit, rehearse):
        with pytest.raises(ConfigError, match=message):
            act(game({}), Volumes(), settings, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


SHARED = "3 volumes cannot be shared evenly by 2 sets of 2 ranks; give a multiple of 2, or start "
SHARED += "one of 2, 6 processes"


def test_refused_by_several(tmp_path: Path) -> None:
    def cycle() -> Any:
        settings = CycleSettings(
            translator_channels=(4, 8), translator_blocks=1, patch_critic_channels=(4, 8)
        )
        return build_cycle(settings, shape=LONG)

    def sharded() -> Any:
        variant = TinyVariant()
        variant.sharded = True  # type: ignore[attr-defined]
        return variant

    long = Volumes(shape=LONG)
    cases: list[tuple[Any, Any, Config, str]] = [
        (game({}), Volumes(), config(3), "needs 3 processes, or a multiple, and there are 4"),
        (game({}), Volumes(), config(4), "the critic has grids of 2, 4, 8 planes"),
        (cycle(), Volumes((), 2, LONG), config(2), "CycleGAN does not say how volumes are split"),
        (sharded(), TinyDataset(), config(2), "TinyVariant does not say how volumes are split"),
        (game({}, shape=LONG), long, config(2, cuda_graph="on"), "train.cuda_graph on"),
        (game({}, shape=LONG), long, config(2, batch_size=3), SHARED),
    ]

    def work(rank: int) -> Any:
        told = []
        with joined() as ranks:
            for variant, data, settings, _ in cases:
                for act in (fit, rehearse):
                    with pytest.raises(ConfigError) as caught:
                        act(variant, data, settings, out=tmp_path / "runs", ranks=ranks)
                    told.append(str(caught.value))
        return told

    for told in results(together(4, work, tmp_path / "ranks")):
        for i, (*_, message) in enumerate(cases):
            assert all(message in one and "\n" not in one for one in told[2 * i : 2 * i + 2]), told
    assert not (tmp_path / "runs").exists()


def test_without_a_split_nothing_is_divided() -> None:
    ranks = Ranks()
    ranks.split([1, 1, 1])
    assert ranks.slabs.count == 1 and ranks.shard.count == 1
