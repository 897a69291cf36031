"""A chain computes what its modules compute one by one, and keeps less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.nn import (
    Conv3d,
    ConvChain,
    ConvNormAct3d,
    ConvTranspose3d,
    NormAct3d,
    run_chain,
)

Parts = Callable[[], list[nn.Module]]


def stages(norm: str = "instance", **settings: Any) -> list[nn.Module]:
    return [
        ConvNormAct3d(2, 4, stride=(2, 2, 2), norm="none"),
        ConvNormAct3d(4, 6, stride=(1, 2, 1), norm=norm, **settings),
        ConvNormAct3d(6, 4, transposed=True, stride=(2, 1, 1), norm=norm, **settings),
        ConvNormAct3d(4, 4, norm="none"),
    ]


CHAINS: dict[str, Parts] = {
    "instance": stages,
    "group": lambda: stages("group"),
    "layer": lambda: stages("layer"),
    "bare convolutions": lambda: [NormAct3d(2), Conv3d(2, 4, 3, padding=1), Conv3d(4, 2, 1)],
    "norm after norm": lambda: [NormAct3d(2), NormAct3d(2, "layer"), Conv3d(2, 2, 2)],
    "interrupted": lambda: [*stages()[:2], nn.Tanh(), NormAct3d(6), nn.Tanh(), Conv3d(6, 2, 1)],
    "dilated": lambda: [NormAct3d(2), Conv3d(2, 2, 2, dilation=2), NormAct3d(2)],
    "output padding": lambda: [
        NormAct3d(2, "layer"),
        ConvTranspose3d(2, 4, 3, stride=2, output_padding=(1, 0, 1)),
        NormAct3d(4, eps=0.3),
        Conv3d(4, 4, 3),
    ],
}


def one_by_one(modules: list[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        apart = (module.conv, module.norm_act) if isinstance(module, ConvNormAct3d) else (module,)
        for part in apart:
            x = part(x)
    return x


def penalty(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sin().sum(), x, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


@pytest.mark.parametrize("name", CHAINS)
def test_penalty_reaches_parameters(name: str) -> None:
    chain = ConvChain(*CHAINS[name]()).double()
    for parameter in chain.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 2, 6, 4, 6, dtype=torch.float64)

    def loss(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        value = function(x).square().mean() + penalty(function, x)
        return value, torch.autograd.grad(value, list(chain.parameters()))

    found, expected = loss(chain), loss(lambda t: one_by_one(list(chain), t))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_condition_reaches_every_norm() -> None:
    modules = stages(num_classes=3)
    for affine in (m.norm_act.affine for m in modules[1:3]):
        nn.init.normal_(affine.weight)
    x, labels = torch.randn(3, 2, 4, 4, 4), torch.tensor([0, 2, 1])
    y = x
    for module in modules:
        y = module.norm_act(module.conv(y), labels)
    torch.testing.assert_close(run_chain(modules, x, labels), y, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="labels are missing"):
        run_chain(modules, x)


def test_watched_modules_are_called() -> None:
    modules = stages()
    x = torch.randn(1, 2, 4, 4, 4)
    expected = run_chain(modules, x)
    seen: list[nn.Module] = []
    for module in (modules[1].norm_act, modules[2].conv, modules[3]):
        module.register_forward_hook(lambda module, _inputs, _y: seen.append(module))
    torch.testing.assert_close(run_chain(modules, x), expected)
    assert seen == [modules[1].norm_act, modules[2].conv, modules[3]]


def saved_bytes(function: Callable[[Tensor], Tensor], x: Tensor, own: nn.Module) -> int:
    """Bytes of what the graph keeps, each storage once, without parameters and x."""
    seen: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = function(x)
    for t in (x, *own.parameters()):
        seen.pop(t.untyped_storage().data_ptr(), None)
    assert y.requires_grad
    return sum(seen.values())


def test_keeps_one_volume_a_stage() -> None:
    chain = ConvChain(*(ConvNormAct3d(8, 8) for _ in range(4)))
    x = torch.randn(2, 8, 8, 8, 8).to(memory_format=torch.channels_last_3d)
    volume = x.numel() * 4
    apart = saved_bytes(lambda t: one_by_one(list(chain), t), x, chain)
    together = saved_bytes(chain, x, chain)
    # Statistics are a few numbers; apart, three activated volumes are kept besides.
    assert 4 * volume <= together <= 4.1 * volume
    assert 7 * volume <= apart <= 7.1 * volume
