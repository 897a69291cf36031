"""The library's own 3D convolution: right, how near its limit, and how bad its double backward is.

PyTorch computes the weight gradient of a convolution's double backward as a forward convolution
whose kernel is a whole feature map. The peer beside it is the true weight gradient. Sizes grow, so
that a kernel of minutes is met last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bench.gpu.clock import Clock, Row, Run, Setting, relative_error
from bench.gpu.conv3d import library
from fastgan.cli.doctor import known_faults

# Batch, side, channels in, channels out; 3 taps, stride 1: the middle of a critic.
SHAPES = [(4, 16, 32, 64), (8, 32, 32, 64), (8, 64, 32, 64), (8, 128, 16, 32)]
QUICK = [(1, 6, 4, 8)]
GEOMETRY: tuple[Any, ...] = ([1] * 3, [1] * 3, [1] * 3)
PASSES = ("forward", "input gradient", "weight gradient")
EXACT = {torch.bfloat16: 1e-2, torch.float32: 2e-3}


def rows(setting: Setting) -> Iterator[Row]:
    """Known faults of the version, then each shape, dtype, layout and pass."""
    faults = known_faults(torch.__version__, torch.backends.cudnn.version())
    yield {"pass": "version", "faults": faults, "TF32 allowed": torch.backends.cudnn.allow_tf32}
    torch.backends.cudnn.benchmark = True
    clock = Clock(setting.device, setting.quick, budget=1.0)
    for shape in QUICK if setting.quick else SHAPES:
        for dtype in (torch.bfloat16, torch.float32):
            for form in (torch.channels_last_3d, torch.contiguous_format):
                yield from _rows(shape, dtype, form, setting, clock)


def _rows(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    form: torch.memory_format,
    setting: Setting,
    clock: Clock,
) -> Iterator[Row]:
    batch, side, before, after = shape
    volume = (batch, before, side, side, side)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, device=setting.device).to(dtype).to(memory_format=form)

    x, weight, g = (
        normal(*volume),
        normal(after, before, 3, 3, 3),
        normal(batch, after, *volume[2:]),
    )
    layout = "NDHWC" if form == torch.channels_last_3d else "NCDHW"
    named: Row = {"shape": list(shape), "dtype": str(dtype).removeprefix("torch.")}
    named["layout"] = layout
    flops = 2 * batch * side**3 * before * after * 27
    runs = dict(zip(PASSES, library(x, weight, g, GEOMETRY), strict=True))
    true_weight = runs["weight gradient"]
    runs["double backward, PyTorch's"] = _double_backward(x, weight, g)
    exact = None
    if flops < 2e11:
        wide = library(*(t.double() for t in (x, weight, g)), GEOMETRY)
        exact = dict(zip(PASSES, wide, strict=True))
        exact["double backward, PyTorch's"] = exact["weight gradient"]
    for name, run in runs.items():
        row = named | {"pass": name}
        if exact is not None:
            error = relative_error([run()], [exact[name]()])
            row["error"] = error
            if not error <= EXACT[dtype]:
                yield row | {"problem": f"differs from float64 by {error:.2e}"}
                continue
        taken = clock({name: run, "true": true_weight})
        row |= {"ms": taken[name], "TFLOP/s": flops / taken[name] / 1e9}
        if name.startswith("double"):
            row["over the true weight gradient"] = taken[name] / taken["true"]
        yield row


def _double_backward(x: Tensor, weight: Tensor, g: Tensor) -> Run:
    """The weight's gradient out of the double backward: of <dgrad(g), x>, so wgrad(g, x)."""
    leaf, w = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = torch.nn.functional.conv3d(leaf, w, padding=1)
    (slope,) = torch.autograd.grad(y, leaf, g, create_graph=True)
    return lambda: torch.autograd.grad(slope, w, x, retain_graph=True)[0]
