"""norm_act beside stock PyTorch: forward, backward and second derivative, instance grouping.

Each provider's result is compared with float64 before it is timed. Providers take turns, and each
runs once untimed in its turn: what the others left in the caches is no part of its time. Inductor
compiles the form with group_norm, gradients ahead of time: the value with its backward, and for the
second derivative the slope with its backward, so that no pass computes again what the one before
has kept.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch._functorch.config
from torch import Tensor
from torch.nn import functional
from turns import Times, in_turns

from fastgan import ops

# A graph made beforehand is run again and again, so it may not give its memory away.
torch._functorch.config.donated_buffer = False

SHAPES = [(2, 16, 32, 32, 32), (2, 32, 64, 64, 64)]
SLOPE = 0.2
# Against float64; the largest error over the largest value.
TOLERANCE = 1e-4
# Distance from the activation's kink, where rounding would decide the slope of any provider.
MARGIN = 1e-4

Function = Callable[[Tensor, Tensor, Tensor], Tensor]


def stock(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    normed = functional.group_norm(x, x.shape[1], weight, bias)
    return functional.leaky_relu(normed, SLOPE)


def stock_instance(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    normed = functional.instance_norm(x, weight=weight, bias=bias)
    return functional.leaky_relu(normed, SLOPE)


def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ops.norm_act(x, weight, bias, num_groups=x.shape[1], negative_slope=SLOPE)


PROVIDERS: dict[str, tuple[Function, torch.memory_format, str]] = {
    "group_norm-NCDHW": (stock, torch.contiguous_format, "auto"),
    "group_norm-NDHWC": (stock, torch.channels_last_3d, "auto"),
    "instance_norm-NCDHW": (stock_instance, torch.contiguous_format, "auto"),
    "instance_norm-NDHWC": (stock_instance, torch.channels_last_3d, "auto"),
    "inductor-NCDHW": (stock, torch.contiguous_format, "auto"),
    "inductor-NDHWC": (stock, torch.channels_last_3d, "auto"),
    "reference-NDHWC": (ours, torch.channels_last_3d, "reference"),
    "native-NDHWC": (ours, torch.channels_last_3d, "native"),
    "native-NCDHW": (ours, torch.contiguous_format, "native"),
}


def slope_of(function: Function) -> Callable[..., Tensor]:
    """The gradient of x, as a function of all that it depends on."""

    def slope(x: Tensor, weight: Tensor, bias: Tensor, cotangent: Tensor) -> Tensor:
        _, pull = torch.func.vjp(lambda x: function(x, weight, bias), x)
        return pull(cotangent)[0]

    return slope


def passes(
    function: Function, values: list[Tensor], compiled: bool = False
) -> dict[str, Callable[[], list[Tensor]]]:
    """The three passes as functions of nothing, on graphs made beforehand."""
    x, weight, bias, g, v = values
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    cotangent = g.detach().requires_grad_()
    if compiled:
        slope = torch.compile(slope_of(function), fullgraph=True)(*leaves, cotangent)
        function = torch.compile(function, fullgraph=True)
        y = function(*leaves)
    else:
        y = function(*leaves)
        (slope,) = torch.autograd.grad(y, leaves[0], cotangent, create_graph=True)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [function(x, weight, bias)]

    def backward() -> list[Tensor]:
        return list(torch.autograd.grad(y, leaves, g, retain_graph=True))

    def second() -> list[Tensor]:
        wanted = [cotangent, leaves[0], leaves[1]]
        return list(torch.autograd.grad(slope, wanted, v, retain_graph=True))

    return {"forward": forward, "backward": backward, "second": second}


def away_from_kinks(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x, with what would be normalised to nearly 0 drawn again."""
    while True:
        z = functional.group_norm(x.double(), x.shape[1], weight.double(), bias.double())
        near = z.abs() < MARGIN
        if not near.any():
            return x
        x[near] = torch.randn(int(near.sum()))


@pytest.mark.parametrize("order", ["forward", "backward", "second"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def bench_norm_act(
    shape: tuple[int, ...],
    order: str,
    rounds: Callable[[int], int],
    keep: Callable[[str, Times], None],
) -> None:
    x, g, v = torch.randn(3, *shape).unbind()
    weight, bias = torch.randn(2, shape[1])
    x = away_from_kinks(x, weight, bias)
    expected = passes(stock, [t.double() for t in (x, weight, bias, g, v)])[order]()
    torch.compiler.reset()
    runs: dict[str, Callable[[], list[Tensor]]] = {}
    for provider, (function, layout, implementation) in PROVIDERS.items():
        laid = [t.contiguous(memory_format=layout) for t in (x, g, v)]
        values = [laid[0], weight, bias, *laid[1:]]
        with ops.implementation(implementation):
            runs[provider] = run = passes(function, values, provider.startswith("inductor"))[order]
            for found, exact in zip(run(), expected, strict=True):
                error = (found - exact).abs().max() / exact.abs().max()
                assert error < TOLERANCE, f"{provider}: error {error:.2e}"
    times = in_turns(
        runs,
        # what fits the caches varies more
        rounds(15 if x.numel() > 1 << 22 else 99),
        warm=1,
        around=lambda provider: ops.implementation(PROVIDERS[provider][2]),
    )
    keep(f"{order} {'x'.join(map(str, shape))}", times)
