"""Layers on slabs are the layers on volumes: values, first and second derivatives, by 2 and 4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.nn import Conv3d, ConvTranspose3d, NormAct3d, Smooth3d
from fastgan.slabs import averaged, gathered, halo, summed
from fastgan.slabs.layers import LAYERS
from fastgan.train.ranks import joined
from tests.train.together import results, together

BOUND = {torch.float64: 1e-12, torch.float32: 1e-6}
SHAPE = (2, 4, 8, 4, 6)  # B C D H W

Layer = Callable[[Tensor], Tensor]


def module_of(name: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(3)
    made: dict[str, Callable[[], Any]] = {
        "conv-1": lambda: Conv3d(4, 3, 1),
        "conv-3": lambda: Conv3d(4, 3, 3, padding=1),
        "conv-4": lambda: Conv3d(4, 3, 4, stride=2, padding=1),
        "conv-3-thick": lambda: Conv3d(4, 3, (3, 4, 4), stride=(1, 2, 2), padding=1),
        "transposed-3": lambda: ConvTranspose3d(4, 3, 3, padding=1),
        "transposed-4": lambda: ConvTranspose3d(4, 3, 4, stride=2, padding=1),
        "instance": lambda: NormAct3d(4, "instance"),
        "group": lambda: NormAct3d(4, "group", negative_slope=0.0),
        "layer": lambda: NormAct3d(4, "layer"),
        "none": lambda: NormAct3d(4, "none"),
        "smooth": Smooth3d,
    }
    return made[name]().to(dtype)


MODULES = ("conv-1", "conv-3", "conv-4", "conv-3-thick", "transposed-3", "transposed-4")
MODULES += ("instance", "group", "layer", "none", "smooth")


def windows(x: Tensor, count: int, edge: bool) -> Tensor:
    """What `halo` gives to all parts, in a row."""
    first, last = x[:, :, :1], x[:, :, -1:]
    if not edge:
        first, last = torch.zeros_like(first), torch.zeros_like(last)
    padded = torch.cat([first, x, last], 2)
    planes = x.shape[2] // count
    return torch.cat([padded.narrow(2, i * planes, planes + 2) for i in range(count)], 2)


def of_whole(name: str, count: int, dtype: torch.dtype) -> Layer:
    """What all parts give, in a row, from the whole volume."""
    exchanges: dict[str, Layer] = {
        "halo": lambda x: windows(x, count, False),
        "halo-edge": lambda x: windows(x, count, True),
        "summed": lambda x: torch.cat([sum(x.chunk(count, 2), torch.zeros(()))] * count, 2),
        "averaged": lambda x: torch.cat([torch.stack(x.chunk(count, 2)).mean(0)] * count, 2),
        "gathered": lambda x: torch.cat([x] * count, 2),
    }
    return exchanges[name] if name in exchanges else module_of(name, dtype)


def of_slab(name: str, slabs: Any, dtype: torch.dtype) -> Layer:
    exchanges: dict[str, Layer] = {
        "halo": lambda x: halo(x, slabs),
        "halo-edge": lambda x: halo(x, slabs, edge=True),
        "summed": lambda x: summed(x, slabs),
        "averaged": lambda x: averaged(x, slabs),
        "gathered": lambda x: gathered(x, slabs, 2),
    }
    if name in exchanges:
        return exchanges[name]
    module = module_of(name, dtype)
    return LAYERS[type(module).forward](module, slabs)


NAMES = ("halo", "halo-edge", "summed", "averaged", "gathered", *MODULES)


def noise(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    by = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=by, dtype=torch.float64).to(dtype)


LAYOUTS: dict[str, Layer] = {
    "NDHWC": lambda x: x.contiguous(memory_format=torch.channels_last_3d),
    "NCDHW": lambda x: x.contiguous(),
    "slice": lambda x: torch.cat([x, x], 2)[:, :, : x.shape[2]],
}


def orders(
    layer: Layer, x: Tensor, part: Callable[[Tensor], Tensor], layout: str = "NDHWC"
) -> list[Tensor]:
    """Value, gradient, and gradient of a product with the gradient; `part` of random cotangents."""
    x = x.clone().requires_grad_()
    y = layer(LAYOUTS[layout](x))
    planes = y.shape[2] * SHAPE[2] // x.shape[2]
    c = part(noise(*y.shape[:2], planes, *y.shape[3:], seed=1, dtype=x.dtype))
    (g,) = torch.autograd.grad((y.sin() * c).sum(), x, create_graph=True)
    v = part(noise(*SHAPE, seed=2, dtype=x.dtype))
    (h,) = torch.autograd.grad((g * v).sum(), x)
    return [y.detach(), g.detach(), h]


@pytest.mark.parametrize("count", [2, 4])
def test_two_orders_are_those_of_the_whole(count: int, tmp_path: Path) -> None:
    # A halving of eight planes leaves one for each of four.
    cases = [(name, dtype, "NDHWC") for name in NAMES for dtype in BOUND]
    cases += [(name, torch.float64, other) for name in NAMES for other in ("NCDHW", "slice")]

    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.split([count, 1, 1])
            ranks.connect(torch.device("cpu"))
            slabs, made = ranks.slabs, {}
            for name, dtype, layout in cases:
                x = slabs.own(noise(*SHAPE, seed=0, dtype=dtype), 2)
                layer = of_slab(name, slabs, dtype)
                given = (layer, x, lambda t: slabs.own(t, 2), layout)
                made[name, dtype, layout] = orders(*given)
            return made

    every = results(together(count, work, tmp_path))
    for case in cases:
        name, dtype, layout = case
        x = noise(*SHAPE, seed=0, dtype=dtype)
        wanted = orders(of_whole(name, count, dtype), x, lambda t: t, layout)
        made = [one[case] for one in every]
        parts = [torch.cat(found, 2) for found in zip(*made, strict=True)]
        for order, (found, right) in enumerate(zip(parts, wanted, strict=True)):
            apart = ((found - right).norm() / right.norm()).item()
            assert found.shape == right.shape and apart <= BOUND[dtype], (case, order, apart)


def test_a_third_order_of_a_norm_is_refused(tmp_path: Path) -> None:
    def work(rank: int) -> Any:
        with joined() as ranks:
            ranks.split([2, 1, 1])
            ranks.connect(torch.device("cpu"))
            layer = of_slab("instance", ranks.slabs, torch.float64)
            x = noise(*SHAPE, seed=0, dtype=torch.float64).requires_grad_()
            y = layer(x)
            for _ in range(2):
                (y,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            with pytest.raises(ConfigError, match="third order"):
                y.sum().backward()
            return True

    assert results(together(2, work, tmp_path)) == [True, True]
