"""fastgan's networks on slabs: which can be, and making them so for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.models import Critic, Generator
from fastgan.nn import (
    ConvChain,
    ConvNormAct3d,
    ResidualDown3d,
    ResidualUp3d,
    check_labels,
)
from fastgan.slabs.exchange import Slabs, summed
from fastgan.slabs.layers import LAYERS, embedding, linear_in, linear_out

__all__ = ["require_planes", "spread_network"]

# Their forward calls others and moves voxels within blocks alone.
UNCHANGED = {
    module.forward
    for module in (ConvChain, ConvNormAct3d, ResidualDown3d, ResidualUp3d, nn.Identity)
}


@contextmanager
def spread_network(network: nn.Module, slabs: Slabs, name: str = "network") -> Iterator[None]:
    """Inside, the network works on slabs: every holder calls it, with the same arguments.

    A generator takes whole latents and gives this part of each volume; a critic takes this part and
    gives the score of the volume. Parameters stay whole, on every holder; their gradients are
    shares, see `fastgan.slabs`.

    Args:
        network: of `build_generator` or `build_critic`.
        slabs: the parts.
        name: of the network, for errors.

    Raises:
        ConfigError: a network of another kind, or one whose grids cannot be divided.
    """
    if slabs.count == 1:
        yield
        return
    if type(network) not in (Generator, Critic):
        raise ConfigError(
            f"train.split: the {name} is a {type(network).__name__}; of networks, those of "
            "build_generator and build_critic can be split"
        )
    require_planes(network, slabs.count, name)
    forwards = _forwards(network, slabs, name)
    for module, forward in forwards:
        module.forward = forward
    try:
        yield
    finally:
        for module, _ in forwards:
            del module.forward


def require_planes(network: nn.Module, count: int, name: str) -> None:
    """Raise ConfigError unless all grids of a network have a multiple of `count` planes."""
    grids, even = _planes_of(network)
    told = ", ".join(map(str, grids))
    if not even:
        raise ConfigError(
            f"train.split: the {name} halves an odd number of planes along the first axis, of "
            f"{told}, and one is left over; choose another data.shape or fewer stages"
        )
    wrong = [planes for planes in grids if planes % count]
    if wrong:
        fitting = [n for n in range(2, count) if all(planes % n == 0 for planes in grids)]
        less = f"split by {' or '.join(map(str, fitting))}, or " if fitting else ""
        raise ConfigError(
            f"train.split: the {name} has grids of {told} planes along the first axis, and "
            f"{wrong[0]} cannot be divided by {count}; {less}choose another data.shape or fewer "
            "stages"
        )


def _planes_of(network: nn.Module) -> tuple[list[int], bool]:
    """Planes along the first axis of every grid of a network, and whether all halve evenly."""
    if isinstance(network, Generator):
        strides = [_stride(module) for module in (*network.stages, network.last)]
        grids = [*accumulate(strides, lambda n, s: n * s, initial=network.grid[0])]
        return sorted({*grids}), grids[-1] * network.fold[0] == network.shape[0]
    assert isinstance(network, Critic)
    grids, even = [network.shape[0] // network.blocks[0]], True
    for module in network.stages:
        stride = _stride(module)
        even = even and grids[-1] % stride == 0
        grids.append(grids[-1] // stride)
    return sorted({*grids}), even


def _stride(module: nn.Module) -> int:
    inner: Any = module.conv if isinstance(module, ConvNormAct3d) else module
    stride = getattr(inner, "stride", (1, 1, 1))
    return int(stride[0])


def _forwards(
    network: nn.Module, slabs: Slabs, name: str
) -> list[tuple[Any, Callable[..., Tensor]]]:
    """Modules, and what takes the place of their forward."""
    found: list[tuple[Any, Callable[..., Tensor]]] = []
    known: dict[int, Callable[..., Tensor]] = {}
    if isinstance(network, Generator):
        known[id(network.start)] = linear_out(network.start, slabs)
    else:
        assert isinstance(network, Critic)
        times = 2 if network.group else 1
        known[id(network)] = _critic(network, slabs)
        known[id(network.head)] = linear_in(network.head, slabs, times)
        if network.num_classes:
            known[id(network.embed)] = embedding(network.embed, slabs, times)
    for path, module in network.named_modules():
        if id(module) in known:
            found.append((module, known[id(module)]))
            continue
        if module is network or isinstance(module, nn.ModuleList | nn.Embedding):
            continue
        if "parametrizations" in path.split("."):
            # They work on weights, which are whole.
            continue
        own = "forward" in module.__dict__
        kind = type(module).forward
        if not own and kind in UNCHANGED and getattr(module, "mode", "nearest") == "nearest":
            continue
        if own or kind not in LAYERS:
            raise ConfigError(
                f"train.split: {name}.{path} is a {type(module).__name__}, of which it is not "
                "known what it needs of other slabs"
            )
        try:
            found.append((module, LAYERS[kind](module, slabs)))
        except ConfigError as error:
            raise ConfigError(f"train.split: {name}.{path}: {error}") from None
    return found


def _critic(critic: Critic, slabs: Slabs) -> Callable[..., Tensor]:
    """The forward of a critic: what it reads in every slab, summed."""
    part = (critic.channels, critic.shape[0] // slabs.count, *critic.shape[1:])

    def forward(x: Tensor, labels: Tensor | None = None) -> Tensor:
        if x.dim() != 5 or tuple(x.shape[1:]) != part:
            raise ConfigError(
                f"critic: x must be a slab [B, {', '.join(map(str, part))}], got {list(x.shape)}"
            )
        check_labels("critic", labels, critic.num_classes, x.shape[0])
        return summed(critic.score(x, labels), slabs)

    return forward
