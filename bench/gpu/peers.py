"""norm_act through autograd beside PyTorch's norms in both layouts, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from bench.gpu.clock import Clock, Row, Run, Setting, forced, relative_error
from bench.gpu.operators import TOLERANCE
from fastgan import ops
from fastgan.ops.implementations import dispatch

SLOPE = 0.2
# Volumes that each pass must at least read and write.
VOLUMES = {"forward": 2, "backward": 3, "second": 5}
SHAPES = [(2, 32, 64, 64, 64), (2, 32, 128, 128, 128)]
QUICK = [(1, 4, 6, 6, 6)]
LAST = torch.channels_last_3d


def rows(setting: Setting) -> Iterator[Row]:
    """Each shape, dtype, pass and provider."""
    clock = Clock(setting.device, setting.quick, budget=0.5)
    bandwidth = clock.copy_bandwidth()
    for shape in QUICK if setting.quick else SHAPES:
        for dtype in (torch.bfloat16, torch.float32):
            first = [torch.randn(shape, device=setting.device).to(dtype) for _ in range(3)]
            affine = list(torch.randn(2, shape[1], device=setting.device).to(dtype).unbind())
            yield from _rows(first, affine, setting, clock, bandwidth)


def _rows(
    first: list[Tensor], affine: list[Tensor], setting: Setting, clock: Clock, bandwidth: float
) -> Iterator[Row]:
    last = [t.to(memory_format=LAST) for t in first]
    named: Row = {"shape": list(first[0].shape), "dtype": str(first[0].dtype)[6:]}
    built: dict[str, dict[str, Run]] = {}
    built["group_norm NCDHW"] = passes(group_norm, first, affine, True)
    built["group_norm NDHWC"] = passes(group_norm, last, affine, True)
    built["instance_norm NDHWC"] = passes(instance_norm, last, affine, True)
    # Inductor has no second derivative of its own graph.
    compiled = torch.compile(group_norm, backend="eager" if setting.quick else "inductor")
    built["compiled NDHWC"] = passes(compiled, last, affine, False)
    names = ["reference", *dispatch.implementations("norm_act", first[0])]
    if setting.device.type == "cpu":
        names = [name for name in names if name != "triton"]  # an interpreter
    for name in names:
        with ops.implementation(name):
            of = passes(ours, last, affine, True)
        built[name] = {what: forced(run, name) for what, run in of.items()}
    for what, volumes in VOLUMES.items():
        expected = built["reference"][what]()
        ideal = volumes * first[0].nbytes
        for name, of in built.items():
            if what not in of:
                continue
            row = named | {"pass": what, "provider": name}
            error = relative_error(of[what]()[:1], expected[:1])
            if not error <= 2 * TOLERANCE[first[0].dtype]:
                yield row | {"problem": f"differs from the reference by {error:.2e}"}
                continue
            ms = clock({name: of[what]})[name]
            yield row | {"ms": ms, "over ideal": 1e-3 * ms * bandwidth / ideal, "error": error}


def group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.leaky_relu(functional.group_norm(x, x.shape[1], weight, bias), SLOPE)


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.leaky_relu(functional.instance_norm(x, weight=weight, bias=bias), SLOPE)


def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ops.norm_act(x, weight, bias, num_groups=x.shape[1], negative_slope=SLOPE)


def passes(
    function: Callable[..., Tensor], volumes: list[Tensor], affine: list[Tensor], second: bool
) -> dict[str, Run]:
    """The passes as functions of nothing, on graphs made beforehand."""
    x, g, v = volumes
    leaves = [t.detach().requires_grad_() for t in (x, *affine)]
    cotangent = g.detach().requires_grad_()
    y = function(*leaves)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [function(x, *affine)]

    runs: dict[str, Run] = {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(y, leaves, g, retain_graph=True),
    }
    if second:
        (slope,) = torch.autograd.grad(y, leaves[0], cotangent, create_graph=True)
        wanted = [cotangent, leaves[0], leaves[1]]
        runs["second"] = lambda: torch.autograd.grad(slope, wanted, v, retain_graph=True)
    return runs
