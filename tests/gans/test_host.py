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
from tests.gans.small_game import batches, variant
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
            skip = watch.judge(1, phase.name, loss, optimiser.gradients(), {})
            optimiser.step(skip)
    assert seen.found == []


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
