"""Convolutions of one channel beside cuDNN: pass by pass, without autograd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bench.gpu.clock import Clock, Row, Run, Setting, forced, relative_error
from fastgan.ops import conv3d_passes
from fastgan.ops.implementations import dispatch

# Batch, side, channels, kernel, stride: first layers of critics, and a generator's last.
SHAPES = [(8, 64, 64, 4, 2), (2, 256, 16, 4, 2), (8, 128, 32, 4, 2), (2, 128, 16, 3, 1)]
QUICK = [(1, 8, 16, 4, 2)]
PASSES = ("forward", "input gradient", "weight gradient")
# float32 allows for TF32, which cuDNN may take.
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 1e-2}


def rows(clock: Clock, bandwidth: float, setting: Setting) -> Iterator[Row]:
    """Rows of every shape, dtype, pass and provider; ideal bytes are x and y once.

    Args:
        clock: medians in milliseconds of runs that take turns.
        bandwidth: bytes a second that a copy reaches there.
        setting: where, and how large.
    """
    for shape in QUICK if setting.quick else SHAPES:
        for dtype in (torch.bfloat16, torch.float32):
            built, ideal = providers(shape, dtype, setting.device)
            for i, what in enumerate(PASSES):
                expected = built["cuDNN NCDHW"][i]()
                for name, of in built.items():
                    row: Row = {"op": "conv3d", "pass": what, "implementation": name}
                    row |= {"shape": list(shape), "dtype": str(dtype).removeprefix("torch.")}
                    # where cuDNN may round float32 to 10 bits, it is no equal
                    row["TF32 allowed"] = torch.backends.cudnn.allow_tf32
                    error = relative_error([of[i]()], [expected])
                    if not error <= TOLERANCE[dtype]:
                        yield row | {"problem": f"differs from cuDNN by {error:.2e}"}
                        continue
                    ms = clock({name: of[i]})[name]
                    over = 1e-3 * ms * bandwidth / ideal
                    yield row | {
                        "ms": ms,
                        "ideal bytes": ideal,
                        "over ideal": over,
                        "error": error,
                    }


def providers(
    shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device
) -> tuple[dict[str, list[Run]], int]:
    """The three passes of each provider, and the bytes of x and y."""
    batch, side, channels, taps, stride = shape
    geometry: tuple[Any, ...] = ([stride] * 3, [1] * 3, [1] * 3)
    x = torch.randn(batch, 1, side, side, side, device=device).to(dtype)
    weight = torch.randn(channels, 1, taps, taps, taps, device=device).to(dtype)
    size = conv3d_passes.output_size(x.shape[2:], weight.shape[2:], *geometry)
    g = torch.randn(batch, channels, *size, device=device).to(dtype)
    last = g.to(memory_format=torch.channels_last_3d)
    built = {}
    for name, form in (("NCDHW", torch.contiguous_format), ("NDHWC", torch.channels_last_3d)):
        built[f"cuDNN {name}"] = library(
            *(t.to(memory_format=form) for t in (x, weight, g)), geometry
        )
    for name in dispatch.implementations("conv3d", x):
        built[name] = [forced(run, name) for run in own(x, weight, last, geometry)]
    return built, x.element_size() * (x.numel() + g.numel())


def library(x: Tensor, weight: Tensor, g: Tensor, geometry: tuple[Any, ...]) -> list[Run]:
    """PyTorch's, whose layout is that of its tensors."""

    def gradient(mask: list[bool]) -> Run:
        rest = (None, *geometry, False, [0, 0, 0], 1, mask)
        at = mask.index(True)
        return lambda: torch.ops.aten.convolution_backward(g, x, weight, *rest)[at]

    return [
        lambda: torch.ops.aten.convolution(x, weight, None, *geometry, False, [0, 0, 0], 1),
        gradient([True, False, False]),
        gradient([False, True, False]),
    ]


def own(x: Tensor, weight: Tensor, g: Tensor, geometry: tuple[Any, ...]) -> list[Run]:
    """The operators' kernels, by whichever implementation is chosen when they run."""
    return [
        lambda: conv3d_passes.fprop(x, weight, None, *geometry, 1),
        lambda: conv3d_passes.dgrad(g, weight, list(x.shape[2:]), *geometry, 1),
        lambda: conv3d_passes.wgrad(g, x, list(weight.shape[2:]), *geometry, 1),
    ]
