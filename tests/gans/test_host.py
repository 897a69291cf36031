"""What a training step asks of the host: nothing that makes it wait for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan import random
from fastgan.models import critic, generator
from fastgan.random import Draws
from fastgan.train.numerics import Watch
from fastgan.train.optim import PhaseOptimiser
from tests.gans.small_game import CONDITIONAL, batches, variant
from tests.gans.test_adversarial import VARIANTS

# Operators whose result the host has to see before it goes on.
WAITS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique"}


class Waits(TorchDispatchMode):
    """Names of such operators while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: "-".join(map(str, s.values())) or "-")
def test_no_step_reads_a_value_back(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Looks at the values of labels on the CPU alone.
    for network in (critic, generator):
        monkeypatch.setattr(network, "check_labels", lambda *_: None)
    gan, watch, seen = variant(**settings), Watch("stop", None), Waits()
    labelled = bool(settings.get("classes"))
    for phase in gan.phases(0, batches(labelled), Draws(3)):
        named = {f"{m}.{n}": p for m in phase.updates for n, p in gan.modules[m].named_parameters()}
        optimiser = PhaseOptimiser(named, 1e-3, (0.0, 0.9))
        with seen:
            loss, _ = phase.loss()
            torch.autograd.backward(loss)
            skip = watch.judge(loss, optimiser.gradients())
            optimiser.step(skip)
    assert seen.found == []


class Copies(TorchDispatchMode):
    """Dtypes of what is copied from the host to the meta device, which stands for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [a for a in args if isinstance(a, Tensor)]
        # A number with a device of its own is none: 0-dimensional, it is a kernel's argument.
        crossed = any(t.device.type == "cpu" and t.dim() for t in tensors)
        if crossed and isinstance(result, Tensor) and result.device.type == "meta":
            self.found.append(result.dtype)
        return result


AUGMENTED = {"augment": ("flip", "shift", "intensity")}
GAMES = [*VARIANTS, AUGMENTED, {**AUGMENTED, **CONDITIONAL}, {**AUGMENTED, "penalty_interval": 2}]


def on_meta(labelled: bool) -> Any:
    """Batches that are on the device already."""
    host = batches(labelled)

    def next_batch(purpose: str) -> Any:
        batch = host(purpose)
        batch.volumes = batch.volumes.to("meta")
        batch.labels = None if batch.labels is None else batch.labels.to("meta")
        return batch

    return next_batch


@pytest.fixture
def _meta_like_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast does not know the meta device, although it is off here."""
    autocast, enabled = torch.autocast, torch.is_autocast_enabled
    monkeypatch.setattr(torch, "autocast", lambda device, **rest: autocast("cpu", **rest))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device=None: enabled("cpu"))


@pytest.mark.usefixtures("_meta_like_a_gpu")
@pytest.mark.parametrize("settings", GAMES, ids=lambda s: "-".join(map(str, s.values())) or "-")
def test_a_step_is_one_copy_to_the_device(settings: dict[str, Any]) -> None:
    """Reading a value back, too, is an error on this device: it has none."""
    gan, watch, copies = variant(**settings), Watch("stop", None), Copies()
    gan.to("meta")
    drawn = {
        purpose: on_meta("classes" in settings)(purpose) for purpose in ("critic/0", "critic/1")
    }
    phases = 0
    for phase in gan.phases(0, drawn.__getitem__, Draws(3)):
        with copies:
            loss, _ = phase.loss()
            torch.autograd.backward(loss)
            gradients = [p.grad for m in phase.updates for p in gan.modules[m].parameters()]
            watch.judge(loss, [g for g in gradients if g is not None])
            if phase.after is not None:
                with torch.no_grad():
                    phase.after()
        phases += 1
    assert phases == 3 and copies.found == [torch.uint8]


def test_batches_of_another_size_are_drawn_for() -> None:
    """No training has them; who does gets as many draws as there are volumes."""
    gan, sizes = variant(**AUGMENTED), iter([6, 4])
    phases = gan.phases(0, lambda purpose: batches(False, next(sizes))(purpose), Draws(3))
    losses = [phase.loss()[0] for phase in phases]
    assert all(loss.isfinite() for loss in losses)
    (alone,) = [p.loss()[0] for p in list(gan.phases(0, batches(False, 4), Draws(3)))[-1:]]
    assert torch.equal(alone, losses[-1])


def test_draws_reach_a_gpu_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []

    class Pinned(Tensor):
        def to(self, *args: Any, **kwargs: Any) -> Tensor:
            copies.append((args, kwargs))
            return self

    monkeypatch.setattr(Tensor, "pin_memory", lambda t: t.as_subclass(Pinned))
    random.placed(torch.ones(3), torch.device("cuda", 0))
    assert copies == [((torch.device("cuda", 0),), {"non_blocking": True})]
    assert random.placed(torch.ones(3), torch.device("cpu")).tolist() == [1.0, 1.0, 1.0]
