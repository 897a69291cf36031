"""Captured steps: the same bits as without, on a tape of operators in the place of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.config import Config, parse
from fastgan.data import Batch
from fastgan.errors import ConfigError, NumericsError
from fastgan.gans import CycleSettings, adversarial, build_cycle
from fastgan.random import Draws, Shard
from fastgan.train import checkpoint, describe, fit
from fastgan.train.build import variant_of
from fastgan.train.loop import Training
from fastgan.train.run_folder import RunFolder
from fastgan.train.step_graph import WARM_UP, StepGraphs, obstacle, require_graph
from tests.train.tape import Tape
from tests.train.tiny_run import TinyDataset

CPU = torch.device("cpu")
GAMES: dict[str, dict[str, Any]] = {
    "wgan-gp": {},
    "lazy": {"gan": {"penalty_interval": 3}},
    "augmented": {"gan": {"augment": ["flip", "shift", "intensity"]}},
    "clipped": {"gan": {"penalty": "none", "weight_clip": 0.05}},
    "spectral": {
        "gan": {"objective": "hinge", "penalty": "none"},
        "model": {"spectral_norm": True, "critic_norm": "instance"},
    },
    "bfloat16": {"train": {"precision": "bfloat16"}},
    "decay": {"train": {"lr_decay": "linear"}},
    "skip": {"train": {"non_finite": "skip"}},
    "parts": {"train": {"micro_batch": 2}},
    "recomputed": {"train": {"recompute": True}},
}


class Volumes(TinyDataset):
    """Of two classes, 8 voxels an axis."""

    shape = (8, 8, 8)
    classes = ("benign", "malignant")
    prior = np.array([0.5, 0.5])

    def __init__(self, poisoned: int | None = None) -> None:
        rng = np.random.default_rng(1)
        volumes = rng.standard_normal((12, 1, *self.shape), dtype=np.float32)
        if poisoned is not None:
            volumes[poisoned] = np.nan
        self.volumes = torch.from_numpy(volumes).tanh()
        self.labels = torch.arange(12) % 2

    def sample(self, batch_size: int, rng: np.random.Generator) -> Any:
        index = torch.from_numpy(rng.integers(0, len(self.volumes), batch_size))
        labels = self.labels[index]
        return Batch(volumes=self.volumes[index], labels=labels, index=index)


def config(game: dict[str, Any], steps: int = 12) -> Config:
    model = {"latent_dim": 3, "generator_channels": [4, 4], "critic_channels": [4, 4]}
    train = {"device": "cpu", "batch_size": 4, "steps": steps, "lr_critic": 1e-3}
    return parse(
        {
            "model": model | game.get("model", {}),
            "gan": {"critic_steps": 2} | game.get("gan", {}),
            "train": train | game.get("train", {}),
            "data": game.get("data", {}),
        }
    )


def training(
    folder: Path, game: dict[str, Any], graphed: bool, dataset: Volumes | None = None
) -> Training:
    dataset, settings = dataset or Volumes(), config(game)
    record = describe(dataset)
    run = RunFolder.create(folder, settings, record)
    made = Training(variant_of(settings, record), dataset, settings, run, CPU, record)
    made.variant.measured = False
    if graphed:
        made.graphs = graphs(made)
    return made


def graphs(of: Training, **settings: Any) -> StepGraphs:
    places = (of.variant, of._optimise, of.watch, CPU)
    settings = {"insist": True, "make": lambda: Tape(lambda: live(of))} | settings
    return StepGraphs(*places, **settings)


def live(of: Training) -> Iterator[Tensor]:
    for tensors in of.tensors().values():
        yield from tensors.values()


def state(of: Training) -> dict[str, Tensor]:
    return {f"{p}/{n}": t.clone() for p, ts in of.tensors().items() for n, t in ts.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[name]) for name, t in a.items())


@pytest.fixture(autouse=True)
def _counted() -> None:
    Tape.made = Tape.runs = 0


@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
@pytest.mark.parametrize("ahead", [False, True], ids=["one-by-one", "together"])
@pytest.mark.parametrize("name", GAMES)
def test_same_bits_as_without(
    name: str, conditional: bool, ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adversarial, "generates_ahead", lambda device: ahead)
    game = GAMES[name] | {"data": {"conditional": conditional}}
    plain, graphed = (training(tmp_path / str(g), game, g) for g in (False, True))
    losses = []
    for step in range(11):
        for one in (plain, graphed):
            # A step that is logged runs as always.
            one.variant.measured = step == 8
            one.advance()
            losses.append(one.metrics())
        assert same(state(plain), state(graphed)), step
    assert [losses[i]["critic/loss"] for i in range(0, 22, 2)] == pytest.approx(
        [losses[i]["critic/loss"] for i in range(1, 22, 2)], rel=1e-6
    )
    # Of a lazy penalty every third update has one: steps are of three kinds, of which two come
    # often enough.
    assert (Tape.made, Tape.runs) == ((2, 2) if name == "lazy" else (1, 10 - WARM_UP))
    assert plain.watch.skipped == graphed.watch.skipped


def test_lazy_penalties_are_kinds_of_their_own(tmp_path: Path) -> None:
    graphed = training(tmp_path, GAMES["lazy"], True)
    for _ in range(3 * WARM_UP):
        graphed.advance()
    assert Tape.made == 0
    for _ in range(6):
        graphed.advance()
    assert (Tape.made, Tape.runs) == (3, 6)


def test_nothing_moves(tmp_path: Path) -> None:
    """What a graph reads and writes stays where it was recorded."""
    graphed = training(tmp_path, {"train": {"lr_decay": "linear"}}, True)
    for _ in range(WARM_UP + 1):
        graphed.advance()
    assert graphed.graphs is not None
    (recorded,) = graphed.graphs._recorded.values()

    def places() -> list[int]:
        rates = [optimiser._rate for _, optimiser in graphed._optimisers.values()]
        return [t.data_ptr() for t in (*live(graphed), *recorded.inputs.values(), *rates)]

    before = places()
    for _ in range(4):
        graphed.advance()
    assert places() == before and Tape.runs == 5


def test_a_run_goes_on_from_a_checkpoint_of_either_kind(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole", {}, False)
    for _ in range(10):
        whole.advance()
    begun = training(tmp_path / "begun", {}, True)
    for _ in range(5):
        begun.advance()
    begun.save()
    resumed = training(tmp_path / "resumed", {}, True)
    resumed.restore(checkpoint.newest(begun.run.path))
    for _ in range(5):
        resumed.advance()
    assert Tape.runs == 4 and same(state(whole), state(resumed))


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_nan_is_judged_alike(policy: str, tmp_path: Path) -> None:
    game = {"train": {"non_finite": policy}}
    found = []
    for graphed in (False, True):
        one = training(tmp_path / str(graphed), game, graphed)
        told: Any = None
        try:
            for step in range(12):
                if step == 7:  # by now a graph runs
                    one.batches._source.volumes[3] = torch.nan
                one.advance()
        except NumericsError as error:
            told = str(error)
        found.append((told, one.steps_done, dict(one.watch.skipped), state(one)))
    assert Tape.runs > 3
    assert found[0][:3] == found[1][:3] and same(found[0][3], found[1][3])
    if policy == "stop":
        assert "phase critic" in found[0][0] and "critic/" in found[0][0]
    else:
        assert found[0][2]["critic"] > 0


def test_nan_is_told_of_late_and_stops_every_step_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where the host looks at the next report: judgements go from run to run."""
    found = []
    for graphed in (False, True):
        one = training(tmp_path / str(graphed), {}, graphed)
        settle = one.watch.settle
        monkeypatch.setattr(one.watch, "settle", lambda: None)
        for step in range(10):
            clean = one.batches._source.volumes.clone()
            if step == 5:
                one.batches._source.volumes.fill_(torch.nan)
                before = state(one)
            one.advance()
            one.batches._source.volumes.copy_(clean)
        after = {n: t for n, t in state(one).items() if not n.startswith("ema")}
        assert all(torch.equal(t, before[n]) for n, t in after.items())
        with pytest.raises(NumericsError) as error:
            settle()
        found.append(str(error.value))
    assert found[0] == found[1] and found[0].startswith("step 6, phase critic")


def test_batches_of_another_size_are_recorded_anew(tmp_path: Path) -> None:
    plain, graphed = (training(tmp_path / str(g), {}, g) for g in (False, True))
    for one in (plain, graphed):
        for step in range(2 * WARM_UP + 4):
            one.batches._batch_size = 4 if step <= WARM_UP + 1 else 3
            one.advance()
    assert (Tape.made, Tape.runs) == (2, 2 + 2)
    assert same(state(plain), state(graphed))


def test_a_hook_that_comes_later_ends_it(tmp_path: Path) -> None:
    for insist in (False, True):
        one = training(tmp_path / str(insist), {}, False)
        one.graphs = graphs(one, insist=insist)
        for _ in range(WARM_UP + 2):
            one.advance()
        called: list[int] = []
        one.variant.modules["critic"].register_forward_hook(partial(_note_call, called))
        runs = Tape.runs
        if insist:
            with pytest.raises(ConfigError, match=r"cuda_graph on: critic has a hook.*auto or off"):
                one.advance()
        else:
            one.advance()
            assert called and one.graphs.refused == "critic has a hook, which would not be called"
        assert Tape.runs == runs


def _note_call(called: list[int], *_: Any) -> None:
    called.append(1)


class Broken(Tape):
    def record(self, work: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def test_a_capture_that_fails_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    plain, auto = training(tmp_path / "plain", {}, False), training(tmp_path / "auto", {}, False)
    auto.graphs = graphs(auto, insist=False, make=lambda: Broken(lambda: live(auto)))
    for _ in range(WARM_UP + 3):
        plain.advance(), auto.advance()
    assert same(state(plain), state(auto)) and Broken.made == 1
    assert auto.graphs.refused is not None and auto.graphs.refused.endswith("is capturing")
    on = training(tmp_path / "on", {}, False)
    on.graphs = graphs(on, make=lambda: Broken(lambda: live(on)))
    for _ in range(WARM_UP):
        on.advance()
    with pytest.raises(ConfigError, match="capture failed: operation not permitted"):
        on.advance()
    assert on.steps_done == WARM_UP


def test_obstacles(tmp_path: Path) -> None:
    one, gpu = training(tmp_path, {}, False), torch.device("cuda", 0)
    draws = Draws(0)
    assert obstacle(one.variant, CPU, draws) == "the device is cpu, not a GPU of NVIDIA's"
    assert obstacle(one.variant, gpu, draws) is None
    shared = Draws(0, Shard(1, 2))
    assert str(obstacle(one.variant, gpu, shared)).startswith("several processes exchange")
    cycle = build_cycle(CycleSettings(), shape=(8, 8, 8), channels=1, seed=0)
    assert "draws while its phases run" in str(obstacle(cycle, gpu, draws))
    kind = type("Other", (type(one.variant),), {"phases": lambda *_: iter(())})
    other = object.__new__(kind)
    other.__dict__.update(one.variant.__dict__)
    assert obstacle(other, gpu, draws) == "Other has phases of its own, and no recipe of them"
    handle = one.variant.modules["critic"].head.register_forward_hook(lambda *_: None)
    assert obstacle(one.variant, gpu, draws) == "critic.head has a hook, which would not be called"
    handle.remove()
    one.variant.modules["critic"].head.weight.register_hook(lambda g: g)
    assert str(obstacle(one.variant, gpu, draws)).startswith("critic.head.weight has a hook")


def test_what_a_setting_says_of_an_obstacle() -> None:
    assert require_graph("auto", None) is None and require_graph("off", "why") is None
    assert require_graph("auto", "why") == "why" and require_graph("on", None) is None
    with pytest.raises(ConfigError, match=r"train\.cuda_graph on: why; set it to auto or off"):
        require_graph("on", "why")


def test_on_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    settings = config({"train": {"cuda_graph": "on"}})
    dataset = Volumes()
    variant = variant_of(settings, describe(dataset))
    with pytest.raises(ConfigError, match=r"cuda_graph on: the device is cpu, not a GPU"):
        fit(variant, dataset, settings, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_auto_trains_as_always_without_a_gpu(tmp_path: Path) -> None:
    found = []
    for choice in ("off", "auto"):
        one = training(tmp_path / choice, {"train": {"cuda_graph": choice}}, False)
        one.advance()
        assert one.graphs is None
        found.append(state(one))
    assert same(*found)
