"""One pass of the generator serves several updates of the critic, and changes nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.gans import adversarial
from fastgan.gans.real_and_fake import pieces
from fastgan.random import Draws
from tests.gans.small_game import CONDITIONAL, SHAPE, batches, variant

AUGMENTED = {"augment": ("flip", "shift", "intensity")}
GAMES: list[dict[str, Any]] = [{}, CONDITIONAL, {**AUGMENTED, **CONDITIONAL}]


def losses(gan: Any, next_batch: Any) -> list[Tensor]:
    """Of every phase, and each gradient of its parameters; weights stay what they are."""
    found = []
    for phase in gan.phases(0, next_batch, Draws(3)):
        parameters = [p for name in phase.updates for p in gan.modules[name].parameters()]
        loss, _ = phase.loss()
        found += [loss.detach(), *torch.autograd.grad(loss, parameters, allow_unused=True)]
    return [t for t in found if t is not None]


def passes(gan: Any) -> list[int]:
    """Sizes of the generator's batches from now on."""
    sizes: list[int] = []
    gan.modules["generator"].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    return sizes


@pytest.fixture(name="ahead")
def _ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "generates_ahead", lambda device: True)


@pytest.mark.parametrize("settings", GAMES, ids=str)
def test_same_losses_and_gradients(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gan = variant(critic_steps=5, **settings)
    gan.modules["generator"].double(), gan.modules["critic"].double()
    next_batch = batches("classes" in settings)

    def double(purpose: str) -> Any:
        batch = next_batch(purpose)
        batch.volumes = batch.volumes.double()
        return batch

    draw = gan._drawn
    monkeypatch.setattr(gan, "_drawn", lambda *args: _double(draw(*args)))
    sizes = passes(gan)
    one_by_one = losses(gan, double)
    assert sizes == [6] * 6
    monkeypatch.setattr(adversarial, "generates_ahead", lambda device: True)
    together = losses(gan, double)
    assert sizes[6:] == [30, 6]
    for a, b in zip(one_by_one, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def _double(drawn: Any) -> Any:
    share = None if drawn.share is None else drawn.share.double()
    moves = tuple(parameter.double() for parameter in drawn.moves)
    return drawn._replace(latent=drawn.latent.double(), moves=moves, share=share)


@pytest.mark.usefixtures("ahead")
@pytest.mark.parametrize(("voxels", "expected"), [(0, [1] * 5), (2, [2, 2, 1]), (4.9, [4, 1])])
def test_no_more_voxels_than_are_allowed(voxels: float, expected: list[int]) -> None:
    gan = variant(critic_steps=5)
    gan.voxels_at_once = int(voxels * 6 * SHAPE[0] * SHAPE[1] * SHAPE[2])
    sizes = passes(gan)
    losses(gan, batches(False))
    assert sizes == [6 * count for count in expected] + [6]


@pytest.mark.usefixtures("ahead")
def test_batches_of_another_size_have_a_pass_of_their_own() -> None:
    sizes, seen = iter([6, 6, 4, 4, 6]), {}

    def next_batch(purpose: str) -> Any:
        assert purpose not in seen, "each is read once"
        seen[purpose] = batches(False, next(sizes))(purpose)
        return seen[purpose]

    gan = variant(critic_steps=5)
    found = passes(gan)
    losses(gan, next_batch)
    assert found == [12, 8, 6, 6] and list(seen) == [f"critic/{i}" for i in range(5)]


@pytest.mark.usefixtures("ahead")
def test_a_batch_without_labels_is_refused() -> None:
    gan = variant(**CONDITIONAL)
    with pytest.raises(ConfigError, match="needs labels, the data set has none"):
        losses(gan, batches(False))


@pytest.mark.usefixtures("ahead")
def test_each_update_names_its_own_batch() -> None:
    named = [p.batches for p in variant(critic_steps=3).phases(0, batches(False), Draws(0))]
    assert named == [("critic/0",), ("critic/1",), ("critic/2",), ("generator",)]


@pytest.mark.parametrize(
    ("volumes", "voxels", "most", "sizes"),
    [
        (8, 32**3, None, [8]),
        (8, 128**3, None, [2, 2, 2, 2]),
        (3, 256**3, None, [1, 1, 1]),
        (5, 32**3, 2, [2, 2, 1]),
        (0, 32**3, None, [0]),
    ],
)
def test_large_volumes_come_a_few_at_a_time(
    volumes: int, voxels: int, most: int | None, sizes: list[int]
) -> None:
    assert pieces(volumes, voxels, most) == sizes


def test_samples_do_not_depend_on_how_many_come_at_a_time() -> None:
    gan = variant()
    whole = gan.sample(5, rng=np.random.default_rng(0))
    gan.at_once = 2
    parts = gan.sample(5, rng=np.random.default_rng(0))
    torch.testing.assert_close(parts, whole)
    assert gan.sample(0).shape == (0, *whole.shape[1:])
