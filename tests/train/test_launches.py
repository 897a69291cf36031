"""Launches of a training step, counted where no GPU is: five updates of the critic, one of the
generator, networks at 32^3 of as many layers as by default, a step that is not logged.

Each operator of PyTorch that is no view counts as one launch: cuDNN, or a list of many tensors, may
take more. An operator of fastgan counts as its CUDA kernels; where none is proven, as what PyTorch
runs in its place. Shown by `pytest -s tests/train/test_launches.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan.config import Config, parse
from fastgan.gans import adversarial
from fastgan.ops import implementation
from fastgan.ops.registration import KERNELS, NAMESPACE
from fastgan.runs.profile.measure import training_steps
from fastgan.runs.profile.traffic import is_idle
from tools.tables import ROOT
from tools.tables.markdown import table

# Kernels of an operator, as docs/gpu.md has them; a convolution is one of cuDNN's.
NATIVE = {
    "group_statistics": 2,  # moments, statistics
    "norm_act_conv_fprop": 2,  # application, convolution
    "norm_act_conv_wgrad": 2,
    "norm_act_bwd": 4,
    "bias_act_fwd": 1,
    "leaky": 1,
    "conv_fprop": 1,
    "conv_dgrad": 1,
    "conv_wgrad": 1,
    "slope_penalty_fwd": 2,
    "slope_penalty_bwd": 1,
    "slope_penalty_mix": 1,
}


class Launches(TorchDispatchMode):
    """Counts by name; `inside`: what PyTorch runs in place of an operator of fastgan."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside, self.found = inside, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.inside and func in KERNELS:
            with self:
                return KERNELS[func](*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not is_idle(func) and name != "rand":  # drawn on the host
            self.found[name] += NATIVE[name] if func.namespace == NAMESPACE else 1
        return result


def configured(precision: str = "float32") -> Config:
    """Narrow networks: widths change no count."""
    model = {"generator_channels": [8, 8, 8, 8], "critic_channels": [4, 4, 4, 4]}
    train = {"device": "cpu", "batch_size": 2, "precision": precision}
    return parse({"model": model, "train": train})


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """A pass of the generator serves several updates of the critic, which a CPU has no use for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversarial, "generates_ahead", lambda device: True)
        yield


@cache
def launches(precision: str, proven: bool) -> Counter[str]:
    config = configured(precision)
    with (
        implementation("auto" if proven else "reference"),
        as_on_a_gpu(),
        training_steps(config, warm_up=1) as training,
        Launches(inside=not proven) as counts,
    ):
        training.advance()
    return counts.found


class Figure(NamedTuple):
    goal: int
    before: int
    budget: int


# `before`: counted alike when each draw was a copy, each use of a weight a cast, and metrics were
# computed in every step.
FIGURES = {
    ("float32", True): Figure(450, 813, 479),
    ("bfloat16", True): Figure(450, 1072, 550),
    ("float32", False): Figure(800, 1616, 717),
    ("bfloat16", False): Figure(800, 1811, 796),
}


@pytest.mark.parametrize(("precision", "proven"), FIGURES)
def test_launches_stay_in_budget(precision: str, proven: bool) -> None:
    figure = FIGURES[precision, proven]
    found = launches(precision, proven)
    print(f"\n{precision}, {'native' if proven else 'no certificate'}: {found.total()} launches")
    print(f"goal {figure.goal}, before {figure.before}; {dict(found.most_common(12))}")
    assert found.total() <= figure.budget < figure.before, found


def test_the_page_shows_what_is_counted() -> None:
    rows = []
    for (precision, proven), figure in FIGURES.items():
        found = launches(precision, proven).total()
        goal = f"{figure.goal}, missed" if found > figure.goal else str(figure.goal)
        kernels = "native" if proven else "PyTorch's, without a proof"
        rows.append([kernels, precision, str(figure.before), str(found), goal])
    lines = table(["kernels", "precision", "before", "now", "goal"], rows)
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in page, "docs/gpu.md has to show\n" + "\n".join(lines)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_and_their_gradients_are_cast_once_a_phase(precision: str) -> None:
    casts = launches(precision, proven=True)["_foreach_copy_"]
    assert casts == (12 if precision == "bfloat16" else 0)


def test_a_step_that_is_logged_has_the_same_weights_after_it() -> None:
    config = configured()
    states = []
    for measured in (False, True):
        with training_steps(config, warm_up=1) as training:
            training.variant.measured = measured
            training.advance()
            assert bool(training.metrics().keys() - {"critic/loss", "generator/loss"}) == measured
            states.append(training.tensors())
            states[-1] = {k: {n: t.clone() for n, t in v.items()} for k, v in states[-1].items()}
    for part, tensors in states[0].items():
        assert all(torch.equal(tensor, states[1][part][name]) for name, tensor in tensors.items())
