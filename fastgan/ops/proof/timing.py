"""Times of the operators' passes by every implementation on one device, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.ops.bias_act import bias_act
from fastgan.ops.conv3d import conv3d
from fastgan.ops.group_statistics import group_statistics
from fastgan.ops.implementations import dispatch
from fastgan.ops.nearest import nearest
from fastgan.ops.norm_act import norm_act
from fastgan.ops.norm_act_conv import norm_act_conv
from fastgan.ops.slope_penalty import slope_penalty_fwd

__all__ = ["ROUNDS", "Time", "times"]

ROUNDS = 7


class Time(NamedTuple):
    """One pass of an operator by one implementation."""

    op: str
    what: str
    name: str
    ms: float
    ratio: float  # of the reference's time to this one
    seconds: tuple[float, ...]  # of each round
    least_ratio: float  # of the shortest times


def times(
    device: torch.device,
    *,
    ops: Collection[str] | None = None,
    names: Collection[str] | None = None,
    dtype: torch.dtype = torch.float32,
    rounds: int | None = None,
) -> Iterator[Time]:
    """Medians of the implementations, which take turns, and their speed over the reference's.

    Args:
        device: where.
        ops: names of operators; None: all that have a workload here.
        names: of implementations beside the reference; None: all that can run there.
        dtype: of volumes.
        rounds: how often each runs, after one round that warms up; None: `ROUNDS`.
    """
    rounds = ROUNDS if rounds is None else rounds
    x = torch.empty(1, 1, 2, 2, 2, device=device)
    for op, build in _workloads(device, dtype).items():
        if ops is not None and op not in ops:
            continue
        able = [n for n in dispatch.implementations(op, x) if names is None or n in names]
        if names is None and device.type == "cpu" and "triton" in able:
            able.remove("triton")  # an interpreter
        able = ["reference", *able]
        runs: dict[str, dict[str, Callable[[], object]]] = {}
        for name in able:
            with dispatch.implementation(name):
                runs[name] = build()
        for what in runs["reference"]:
            seconds: dict[str, list[float]] = {name: [] for name in able}
            for _ in range(rounds + 1):
                for name in able:
                    with dispatch.implementation(name):
                        seconds[name].append(_seconds(runs[name][what], device))
            kept = {name: tuple(s[1:]) for name, s in seconds.items()}
            middle = {name: median(s) for name, s in kept.items()}
            for name in able:
                ratio = middle["reference"] / middle[name]
                least = min(kept["reference"]) / min(kept[name])
                yield Time(op, what, name, 1e3 * middle[name], ratio, kept[name], least)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _workloads(
    device: torch.device, dtype: torch.dtype
) -> dict[str, Callable[[], dict[str, Callable[[], object]]]]:
    """For each operator: what makes its passes, as functions of nothing."""
    torch.manual_seed(0)
    side = 64 if device.type == "cuda" else 32
    form = torch.channels_last_3d
    x, g, v = (
        torch.randn(2, 32, side, side, side, device=device).to(dtype, memory_format=form)
        for _ in range(3)
    )
    weight, bias = torch.randn(2, 32, device=device).to(dtype).unbind()
    single = torch.randn(2, 1, side, side, side, device=device).to(dtype)
    kernel = torch.randn(16, 1, 4, 4, 4, device=device).to(dtype)
    rows = torch.randint(-1000, 1000, (80, 16**3), dtype=torch.int16, device=device)

    def passes(function: Callable[..., Tensor], *inputs: Tensor) -> dict[str, Any]:
        leaves = [t.detach().requires_grad_() for t in inputs]
        y = function(*leaves)
        same = y.shape == g.shape and y.dtype == g.dtype
        cotangent = (g if same else torch.randn_like(y)).requires_grad_()
        (slope,) = torch.autograd.grad(y, leaves[0], cotangent, create_graph=True)
        mixed = v if same and slope.shape == v.shape else torch.randn_like(slope)

        def forward() -> Tensor:
            with torch.no_grad():
                return function(*inputs)

        return {
            "forward": forward,
            "backward": lambda: torch.autograd.grad(y, leaves, cotangent, retain_graph=True),
            "second": lambda: torch.autograd.grad(
                slope, [cotangent, *leaves[1:2]], mixed, retain_graph=True, allow_unused=True
            ),
        }

    found: dict[str, Callable[[], dict[str, Callable[[], object]]]] = {
        "norm_act": lambda: passes(lambda *t: norm_act(*t, num_groups=32), x, weight, bias),
        "bias_act": lambda: passes(bias_act, x, bias),
        "slope_penalty": lambda: _first_orders(passes(_penalty, x)),
        "conv3d": lambda: passes(lambda x, w: conv3d(x, w, stride=2, padding=1), single, kernel),
        "nearest": lambda: {"search": lambda: nearest(rows[:16], rows[16:])},
    }
    if device.type == "cuda":  # elsewhere only the library has them
        wide = x.bfloat16(), torch.randn(32, 32, 3, 3, 3, device=device).bfloat16()
        found["conv3d_channels"] = lambda: passes(partial(conv3d, padding=1), *wide)
        found["norm_act_conv"] = lambda: passes(_norm_act_conv, *wide)
    return found


def _penalty(slope: Tensor) -> Tensor:
    value: Tensor = slope_penalty_fwd(slope, 1.0, False)[0]
    return value


def _norm_act_conv(z: Tensor, weight: Tensor) -> Tensor:
    norm = z, group_statistics(z, num_groups=32), None, None
    return norm_act_conv(*norm, weight, num_groups=32, padding=1, next_groups=0)[0]


def _first_orders(passes: dict[str, Any]) -> dict[str, Any]:
    """Without the second derivative, which no training asks for."""
    return {what: run for what, run in passes.items() if what != "second"}
