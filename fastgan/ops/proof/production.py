"""The second half of a trial: sizes of production, where a thread walks long and offsets are large.

At the small random shapes of `certify`, a block's 16-byte loop runs once or twice, a Triton program
has one tile, and every offset fits in 31 bits. Here are volumes of a real training step, cut to
what the device's free memory holds, and one tensor of more than 2^31 elements where it fits.
Everything is drawn on the device: the host would take longer than the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from fastgan.ops import conv3d_passes
from fastgan.ops.bias_act import bias_act
from fastgan.ops.group_statistics import group_statistics
from fastgan.ops.implementations.dispatch import implementation
from fastgan.ops.nearest import nearest
from fastgan.ops.norm_act import norm_act
from fastgan.ops.norm_act_conv_passes import norm_act_conv_fprop, norm_act_conv_wgrad
from fastgan.ops.proof.error_ratios import Case, Result, compare
from fastgan.ops.slope_penalty import slope_penalty_fwd, slope_penalty_mix

__all__ = ["LARGE", "joined", "off_the_kink"]

Sizes = tuple[int, ...]
# [B, C, D, H, W] and groups of norms: a critic's first stage, and many channels at the middle.
VOLUMES: list[tuple[Sizes, int]] = [((1, 64, 128, 128, 64), 64), ((1, 576, 32, 32, 32), 36)]
# Of more than 2^31 elements; its last sample lies beyond what 31 bits count.
BEYOND: Sizes = (33, 64, 128, 128, 64)
# B, C, side, K, taps, stride of convolutions by operator: weight gradients of more than 1,024 tiles
# of 256 outputs, and programs with several tiles.
CONVOLUTIONS = {
    "conv3d": (2, 1, 128, 16, 4, 2),
    "conv3d_channels": (2, 32, 64, 64, 3, 1),
    "norm_act_conv": (2, 16, 64, 64, 4, 2),
}
# Queries, targets, features: whole volumes, several segments of a row and several tiles.
NEIGHBOURS = (5, 37, 128**3)
# float64 copies of a volume that a second derivative by PyTorch holds, and volumes of our own.
COPIES, OWN = 30, 14
# Least distance from the activation's kink, where rounding would decide the slope of either side.
MARGIN = 3e-6
# Of a sample among many beside the same sample alone: one rounding of bfloat16.
ALONE = 2**-7
# Of convolutions' sums, in float32 and bfloat16, over the largest value.
SUMS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
FORMS = (torch.channels_last_3d, torch.contiguous_format)


def _free(device: torch.device) -> float:
    """Bytes that may be taken."""
    if device.type != "cuda":
        return math.inf
    return 0.8 * torch.cuda.mem_get_info(device)[0]


def _fitting(sizes: Sizes, device: torch.device) -> Sizes:
    """`sizes`, or so many halves of its depth as the memory holds."""
    while math.prod(sizes) * 8 * COPIES > _free(device) and sizes[2] > 1:
        sizes = (*sizes[:2], sizes[2] // 2, *sizes[3:])
    return sizes


def _random(draw: torch.Generator, *sizes: int) -> Tensor:
    """Normal float32 numbers that bfloat16 holds."""
    return torch.randn(sizes, generator=draw, device=draw.device).bfloat16().float()


def _norm_act(device: torch.device) -> Result:
    def cases() -> Iterator[Case]:
        draw = torch.Generator(device).manual_seed(0)
        for i, (wanted, groups) in enumerate(VOLUMES):
            sizes = _fitting(wanted, device)
            x = (1 + 2 * _random(draw, *sizes)).bfloat16().float()
            x = x.contiguous(memory_format=FORMS[i % 2])
            weight, bias = (_random(draw, sizes[1]) for _ in range(2))
            bias = off_the_kink(draw, x, weight, bias, groups)
            ours = partial(_ours, groups=groups)
            stock = partial(_stock, groups=groups)
            name, dtypes = f"{list(sizes)}, {groups} groups", (torch.float32, torch.bfloat16)
            yield Case(name, ours, stock, [x, weight, bias], dtypes)

    found = compare(cases(), device, by_mean=False)
    return _with_beyond(found, device, lambda x: _ours(x, None, None, x.shape[1], slope=1.0))


def _ours(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, slope: float = 0.2
) -> Tensor:
    return norm_act(x, weight, bias, num_groups=groups, negative_slope=slope)


def _stock(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    return functional.leaky_relu(functional.group_norm(x, groups, weight, bias), 0.2)


def off_the_kink(
    draw: torch.Generator, x: Tensor, weight: Tensor, bias: Tensor, groups: int
) -> Tensor:
    """`bias`, drawn again for the channels that have a voxel at the activation's kink."""
    z = functional.group_norm(x.double(), groups, weight.double())
    while True:
        off = (z + bias.double().view(1, -1, 1, 1, 1)).abs().amin((0, 2, 3, 4))
        if not (near := off <= MARGIN).any():
            return bias
        bias = torch.where(near, _random(draw, len(bias)), bias)


def _bias_act(device: torch.device) -> Result:
    def cases() -> Iterator[Case]:
        draw = torch.Generator(device).manual_seed(0)
        for i, (wanted, _) in enumerate(VOLUMES):
            sizes = _fitting(wanted, device)
            # Odd multiples of 2^-5 and multiples of 2^-4: no sum is zero, none is rounded.
            x = (torch.randint(-31, 31, sizes, generator=draw, device=device) + 0.5) / 16
            bias = torch.randint(-31, 31, sizes[1:2], generator=draw, device=device) / 16
            x = x.contiguous(memory_format=FORMS[i % 2])

            def stock(x: Tensor, bias: Tensor) -> Tensor:
                return functional.leaky_relu(x + bias.view(1, -1, 1, 1, 1), 0.2)

            dtypes = (torch.float32, torch.bfloat16)
            yield Case(f"{list(sizes)}", bias_act, stock, [x, bias], dtypes)

    return _with_beyond(compare(cases(), device, by_mean=False), device, bias_act)


def _with_beyond(found: Result, device: torch.device, function: Callable[..., Tensor]) -> Result:
    """`found`, and the first and last sample of a huge tensor beside the same samples alone."""
    if math.prod(BEYOND) * 2 * OWN > _free(device):
        return found._replace(figures=found.figures | {"beyond 2^31 elements, left out": 1.0})
    draw = torch.Generator(device).manual_seed(0)

    def volume() -> Tensor:
        fresh = torch.empty(BEYOND, dtype=torch.bfloat16, device=device, memory_format=FORMS[0])
        return fresh.normal_(generator=draw)

    x, g, v = volume(), volume(), volume()
    every = _orders(function, x, g, v)
    problems, worst = list(found.problems), 0.0
    for sample in (0, BEYOND[0] - 1):
        at = slice(sample, sample + 1)
        alone = _orders(function, x[at], g[at], v[at])
        for order, many, one in zip(("forward", "backward", "second"), every, alone, strict=True):
            error = _far(many[at], one)
            worst = max(worst, error)
            if not error <= ALONE:
                size = f"sample {sample} of {list(BEYOND)}"
                problems.append(f"{size}: {order} differs from the sample alone by {error:.2g}")
    return Result(found.figures | {"beyond 2^31 elements worst": worst}, problems)


def _orders(function: Callable[..., Tensor], x: Tensor, g: Tensor, v: Tensor) -> list[Tensor]:
    """Value, derivative by x, and the derivative of <derivative, v> by g."""
    x, g = x.detach().requires_grad_(), g.detach().requires_grad_()
    y = function(x)
    (slope,) = torch.autograd.grad(y, x, g, create_graph=True)
    (second,) = torch.autograd.grad(slope, g, v)
    return [y.detach(), slope.detach(), second]


def _far(found: Tensor, wanted: Tensor) -> float:
    """Largest difference over the largest value; NaN where there is one."""
    return float((found.float() - wanted.float()).abs().max() / wanted.float().abs().max())


def _slope_penalty(device: torch.device) -> Result:
    """Value and derivative, of every sample a norm on one side of the target; and the mix."""
    problems: list[str] = []
    figures: dict[str, float] = {}
    draw = torch.Generator(device).manual_seed(0)
    for i, (wanted, _) in enumerate(VOLUMES):
        sizes = _fitting(wanted, device)
        a, b = (_random(draw, *sizes).contiguous(memory_format=FORMS[i % 2]) for _ in range(2))
        share = torch.rand(sizes[0], generator=draw, device=device)
        for dtype in (torch.float32, torch.bfloat16):
            own = [t.to(dtype) for t in (a, b)]
            mixed = slope_penalty_mix(*own, share)
            wide = torch.lerp(own[1].double(), own[0].double(), share.double().view(-1, 1, 1, 1, 1))
            leaf = mixed.detach().requires_grad_()
            (slope,) = torch.autograd.grad(slope_penalty_fwd(leaf, 1.0, False)[0], leaf)
            norms = torch.linalg.vector_norm(mixed.double().flatten(1), dim=1)
            factor = 2 / sizes[0] * (norms - 1) / norms
            exact = mixed.double() * factor.view(-1, 1, 1, 1, 1)
            bound = 2 * torch.finfo(dtype).eps
            for what, f, e in (("mix", mixed, wide), ("backward", slope, exact)):
                error = float((f.double() - e).abs().max() / e.abs().max())
                key = f"{str(dtype).removeprefix('torch.')} {what}, large, worst"
                figures[key] = max(figures.get(key, 0.0), error)
                if not error <= bound:
                    problems.append(f"{list(sizes)}: {key} is {error:.2g}, allowed {bound:.2g}")
    return Result(figures, problems)


def _convolutions(op: str, device: torch.device) -> Result:
    """The passes beside the library's in float64; second derivatives are made of them."""
    batch, read, side, written, taps, stride = CONVOLUTIONS[op]
    draw = torch.Generator(device).manual_seed(0)
    geometry = ([stride] * 3, [1] * 3, [1] * 3, 1)
    x, weight = _random(draw, batch, read, *[side] * 3), _random(draw, written, read, *[taps] * 3)
    x = x.contiguous(memory_format=FORMS[0])
    size = conv3d_passes.output_size(x.shape[2:], weight.shape[2:], *geometry[:3])
    g = _random(draw, batch, written, *size).contiguous(memory_format=FORMS[0])
    kernel, sizes = list(weight.shape[2:]), list(x.shape[2:])

    def passes(dtype: torch.dtype) -> dict[str, Tensor]:
        x_, w_, g_ = (t.to(dtype) for t in (x, weight, g))
        if op == "norm_act_conv":
            return _behind_norm(x_, w_, g_, *geometry[:2])
        return {
            "fprop": conv3d_passes.fprop(x_, w_, None, *geometry),
            "dgrad": conv3d_passes.dgrad(g_, w_, sizes, *geometry),
            "wgrad": conv3d_passes.wgrad(g_, x_, kernel, *geometry),
        }

    with implementation("reference"):
        exact = passes(torch.float64)
    problems: list[str] = []
    figures: dict[str, float] = {}
    for dtype, bound in SUMS.items():
        again = passes(dtype)
        for name, found in passes(dtype).items():
            key, wanted = f"{str(dtype).removeprefix('torch.')} {name}, large, worst", exact[name]
            figures[key] = float((found.double() - wanted).abs().max() / wanted.abs().max())
            if not figures[key] <= bound:
                problems.append(f"{list(x.shape)}: {key} is {figures[key]:.2g}, allowed {bound}")
            if not torch.equal(found, again[name]):
                problems.append(f"{list(x.shape)}: {key} differs between two runs")
    return Result(figures, problems)


def _behind_norm(
    x: Tensor, weight: Tensor, g: Tensor, stride: list[int], padding: list[int]
) -> dict[str, Tensor]:
    """Values and weight gradients of the convolution of x and of the transposed one of g."""
    found = {}
    for name, z, other in (("convolution", x, g), ("transposed", g, x)):
        mean, rstd = group_statistics(z, num_groups=16).movedim(-1, 0).contiguous().unbind()
        size = list(x.shape[2:]) if z is g else []
        tensors, settings = (z, mean, rstd), (16, 0.2)
        found[name] = norm_act_conv_fprop(
            *(*tensors, weight, None, None, None, *settings, size, stride, padding)
        )
        kernel = list(weight.shape[2:])
        found[f"{name} wgrad"] = norm_act_conv_wgrad(
            *(other, *tensors, None, None, *settings, kernel, z is g, stride, padding)
        )
    return found


def _nearest(device: torch.device) -> Result:
    """Whole volumes, the last target a near-copy of the first query."""
    queries, targets, features = NEIGHBOURS
    problems: list[str] = []
    worst = 0.0
    for dtype in (torch.float32, torch.int16):
        draw = torch.Generator(device).manual_seed(0)
        shape = (queries + targets, features)
        rows = torch.randint(-1000, 1000, shape, generator=draw, device=device, dtype=torch.int16)
        rows[-1] = rows[0]
        rows[-1, ::97] += 1
        rows = rows.to(dtype)
        query, target = rows[:queries], rows[queries:]
        distance, index = nearest(query, target, 3)
        exact = torch.stack([torch.stack([_distance(q, t) for t in target]) for q in query])
        truth, order = exact.sort(dim=1, stable=True)
        if not torch.equal(index, order[:, :3]):
            problems.append(f"[{queries}, {features}], {dtype}: other neighbours than by float64")
        error = float(((distance - truth[:, :3]).abs() / truth[:, :3]).max())
        worst = max(worst, error)
        if not error <= 1e-6:
            problems.append(f"[{queries}, {features}], {dtype}: relative error {error:.2g}")
    return Result({"distance, large, worst": worst}, problems)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() - b.double()).square().sum().sqrt()


def joined(results: Sequence[Result]) -> Result:
    """Figures and problems of all."""
    figures = {key: value for result in results for key, value in result.figures.items()}
    return Result(figures, [problem for result in results for problem in result.problems])


LARGE: dict[str, Callable[[torch.device], Result]] = {
    "norm_act": _norm_act,
    "bias_act": _bias_act,
    "slope_penalty": _slope_penalty,
    **{op: partial(_convolutions, op) for op in CONVOLUTIONS},
    "nearest": _nearest,
}
