"""What a gradient penalty costs where no clock is needed: passes, operators, bytes.

A table of each figure beside its goal (fixed) and its budget; above the budget the test fails.
Shown by `pytest -s tests/ops/test_penalty_budget.py`.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastgan import ops
from fastgan.models import build_critic
from fastgan.nn import ConvChain, ConvNormAct3d
from tools.tables import ROOT
from tools.tables.markdown import table

SIZE, BATCH, CHANNELS = 32, 2, (16, 32, 64, 128)
# Elements that are normalised or activated, one volume a stage.
ELEMENTS = sum(BATCH * c * (SIZE >> (i + 1)) ** 3 for i, c in enumerate(CHANNELS))

VIEWS = {
    *("view", "expand", "t", "transpose", "permute", "unsqueeze", "squeeze", "detach", "alias"),
    *("_unsafe_view", "slice", "select", "as_strided", "_reshape_alias", "unbind", "unflatten"),
    *("empty_like", "empty", "new_empty", "split", "movedim", "flatten", "reshape"),
}


class Figure(NamedTuple):
    """A figure's goal and budget."""

    goal: float
    budget: float


class Counts(TorchDispatchMode):
    """Convolution passes, operators, and bytes read and written beside the convolutions' own."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = self.operators = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if name in VIEWS or name.startswith("sym"):
            return result
        self.operators += 1
        if "conv" in name:
            self.passes += 1
            if name.startswith("norm_act"):  # z read and the scratch buffer written besides
                volume = args[0] if name.endswith("fprop") else args[1]
                self.bytes += 2 * size_of(volume)
            return result
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        # Parameters and their gradients are no volumes: their traffic does not grow with the grid.
        if any(t.dim() > 1 and t.shape[0] == BATCH for t in tensors):
            self.bytes += sum(size_of(t) for t in tensors)
        return result


def size_of(t: Tensor) -> int:
    return min(t.numel() * t.element_size(), t.untyped_storage().nbytes())


class Saved:
    """What one node of a graph keeps; it dies with the node."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class Kept:
    """What graphs keep, but for parameters, x and what is small."""

    def __init__(self, own: torch.nn.Module, x: Tensor) -> None:
        self.known = {t.untyped_storage().data_ptr() for t in (x, *own.parameters())}
        self.saved: list[weakref.ref[Saved]] = []

    def pack(self, t: Tensor) -> Saved:
        saved = Saved(t)
        if t.untyped_storage().data_ptr() not in self.known and t.numel() > 1000:
            self.saved.append(weakref.ref(saved))
        return saved

    def bytes(self) -> int:
        """Of every storage that a node which is still there keeps."""
        gc.collect()
        storages = (s.tensor.untyped_storage() for ref in self.saved if (s := ref()) is not None)
        return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


@contextmanager
def kept(own: torch.nn.Module, x: Tensor) -> Iterator[Kept]:
    """What the graphs that are made inside keep, asked of at any time."""
    seen = Kept(own, x)
    with torch.autograd.graph.saved_tensors_hooks(seen.pack, lambda saved: saved.tensor):
        yield seen


def measured(norm: str) -> dict[str, float]:
    critic = build_critic(
        architecture="dcgan", shape=(SIZE,) * 3, critic_channels=CHANNELS, norm=norm
    )
    x = torch.randn(BATCH, 1, SIZE, SIZE, SIZE)
    with Counts() as counts:
        ops.gradient_penalty(critic, x, x).value.backward()
    with kept(critic, x) as first:
        score = critic(x).sum()
    after_forward = first.bytes()
    leaf = x.detach().requires_grad_()
    with kept(critic, leaf) as second:
        score = critic(leaf).sum()
        (slope,) = torch.autograd.grad(score, leaf, create_graph=True)
    # As in `ops.gradient_penalty` the score goes, with what the slope does not need of the forward.
    del score
    after_slope = second.bytes()
    assert slope.requires_grad
    return {
        "convolution passes": counts.passes,
        "operators": counts.operators,
        "bytes per element": counts.bytes / ELEMENTS,
        "kept after the forward": after_forward / ELEMENTS,
        "kept after the slope": after_slope / ELEMENTS,
    }


# Passes over L = 4 convolutions before a linear head: 4 L, and 2 L - 1 more where a norm follows
# all but the first. Bytes are those of float32; the goal without norm is three sweeps of 8 1/8.
FIGURES = {
    "none": {
        "convolution passes": Figure(16, 16),
        "operators": Figure(68, 40),
        "bytes per element": Figure(24.4, 30),
        "kept after the forward": Figure(4.1, 4.2),
        "kept after the slope": Figure(4.1, 4.2),
    },
    "instance": {
        "convolution passes": Figure(23, 23),
        "operators": Figure(68, 64),
        "bytes per element": Figure(80, 53),
        "kept after the forward": Figure(4, 4.2),
        "kept after the slope": Figure(8, 9.2),
    },
}


@pytest.mark.parametrize("norm", FIGURES)
def test_penalty_stays_in_budget(norm: str) -> None:
    found = measured(norm)
    print(f"\ngradient penalty, critic 1-16-32-64-128 at {SIZE}^3, norm {norm}, float32")
    print(f"{'':24}{'measured':>10}{'goal':>8}{'budget':>8}")
    for name, figure in FIGURES[norm].items():
        missed = "  goal missed" if found[name] > figure.goal else ""
        print(f"{name:24}{found[name]:10.2f}{figure.goal:8g}{figure.budget:8g}{missed}")
    for name, figure in FIGURES[norm].items():
        assert found[name] <= figure.budget, f"{name}: {found[name]:.2f} > {figure.budget}"


# As docs/kernels.md calls them.
LABELS = {
    "convolution passes": "convolution passes",
    "operators": "operators, penalty and gradients",
    "bytes per element": "bytes an element beside the convolutions'",
    "kept after the forward": "kept after the forward, bytes an element",
    "kept after the slope": "kept after the slope, bytes an element",
}


def test_the_page_shows_what_is_measured() -> None:
    found = {norm: measured(norm) for norm in FIGURES}
    rows = []
    for name, label in LABELS.items():
        cells = [label]
        for norm, figures in FIGURES.items():
            value, goal = found[norm][name], figures[name].goal
            cells.append(f"{value:g}" if value == int(value) else f"{value:.2f}")
            cells.append(f"{goal:g}, missed" if value > goal else f"{goal:g}")
        rows.append(cells)
    lines = table(["", "norm none", "goal", "instance norm", "goal"], rows)
    page = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in page, "docs/kernels.md has to show\n" + "\n".join(lines)


BLOCKS, WIDTH = 4, 16
# Bytes kept by a chain of blocks over what torch.nn keeps of the same one, activated in place: that
# keeps each norm's input and output, ours the input and statistics.
CHAIN = Figure(0.55, 0.53)


def test_chain_of_blocks_keeps_one_volume_each() -> None:
    ours = ConvChain(*(ConvNormAct3d(WIDTH, WIDTH, norm="instance") for _ in range(BLOCKS)))
    layers: list[torch.nn.Module] = []
    for block in ours:
        conv = torch.nn.Conv3d(WIDTH, WIDTH, 3, padding=1, bias=False)
        conv.weight = block.conv.weight
        norm = torch.nn.InstanceNorm3d(WIDTH, affine=True)
        layers += [conv, norm, torch.nn.LeakyReLU(0.2, inplace=True)]
    stock = torch.nn.Sequential(*layers)
    x = torch.randn(BATCH, WIDTH, SIZE // 2, SIZE // 2, SIZE // 2)
    x = x.to(memory_format=torch.channels_last_3d)
    results, sizes = [], []
    for net in (ours, stock):
        with kept(net, x) as seen:
            y = net(x)
        sizes.append(seen.bytes())
        (gradient,) = torch.autograd.grad(y.square().sum(), [layers[0].weight])
        results.append((y, gradient))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=5e-4)
    page = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    share, volumes = sizes[0] / sizes[1], sizes[1] / (BLOCKS * size_of(x))
    print(
        f"\n{BLOCKS} blocks of convolution, instance norm and LeakyReLU, float32: bytes kept over"
    )
    print("torch.nn's in place: measured   goal  budget")
    print(f"{share:29.3f}{CHAIN.goal:7g}{CHAIN.budget:8g}")
    assert volumes > 1.9, "the peer keeps two volumes a block"
    assert share <= CHAIN.budget
    shown = f"keeps {share:.2f} times the bytes"
    assert shown in page and f"(goal {CHAIN.goal:g})" in page, shown
