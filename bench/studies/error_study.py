"""Rounding errors of every operator beside PyTorch's, over seeded random shapes.

    python bench/studies/error_study.py [--shapes 500] [--seed 0]

Of each shape every product is taken: the value, its gradients, and their gradients, of random
cotangents. The error of a product is its largest deviation from float64 on equal inputs over the
largest value; one below half a unit in the last place of that value counts as that. Ratios are of
our error to that of PyTorch itself in the same dtype. Of a product of few numbers the ratio
is chance: it counts in the mean, and apart from the others in the worst.

Inputs keep away from the activation's kink, where rounding would decide the slope.
Writes bench/results/<device>/error-study.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastgan import ops

DTYPES = (torch.float32, torch.bfloat16)
LAST = torch.channels_last_3d
MARGIN = 1e-3
# Geometric mean allowed, by dtype, and the worst shape.
GOALS = {torch.float32: 1.0, torch.bfloat16: 1.2}
WORST = 2.5
# Of products of few numbers, all shapes together.
WORST_OF_FEW = 1.5
# The largest of so many errors varies little.
MANY = 64

Function = Callable[..., Tensor]


class Case(NamedTuple):
    """An operator on random inputs of one shape, beside PyTorch's form of it."""

    ours: Function
    stock: Function
    inputs: list[Tensor]  # float64, exact in every dtype
    label: str
    channels_last: bool
    second: bool = True  # False: the function contains a derivative already


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape).bfloat16().double()


def _ints(rng: np.random.Generator, low: int, high: int, count: int = 3) -> list[int]:
    """`count` integers from low to high, both included."""
    return [int(n) for n in rng.integers(low, high + 1, count)]


def _geometry(rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
    kernel = _ints(rng, 1, 4)
    return kernel, _ints(rng, 1, 2), [int(rng.integers(0, k)) for k in kernel]


def _channels(rng: np.random.Generator) -> int:
    """Any, and often those that have a kernel of their own."""
    return int(rng.choice([1, 3, 8, 16, 16, 32, int(rng.integers(2, 25))]))


def conv3d(rng: np.random.Generator) -> Case:
    """Convolution, with a bias."""
    kernel, stride, padding = _geometry(rng)
    b, c, k = int(rng.integers(1, 4)), _channels(rng), _channels(rng)
    x, weight = _normal(b, c, *_ints(rng, 4, 10)), _normal(k, c, *kernel)
    geometry = {"stride": stride, "padding": padding}
    return Case(
        lambda x, w, bias: ops.conv3d(x, w, bias, **geometry),
        lambda x, w, bias: functional.conv3d(x, w, bias, **geometry),
        [x, weight, _normal(k)],
        f"{list(x.shape)} {list(weight.shape)} {stride} {padding}",
        bool(rng.integers(2)),
    )


def conv_transpose3d(rng: np.random.Generator) -> Case:
    """Transposed convolution, with a bias."""
    kernel, stride, padding = _geometry(rng)
    b, c, k = int(rng.integers(1, 4)), _channels(rng), _channels(rng)
    x, weight = _normal(b, c, *_ints(rng, 4, 7)), _normal(c, k, *kernel)
    geometry = {"stride": stride, "padding": padding}
    return Case(
        lambda x, w, bias: ops.conv_transpose3d(x, w, bias, **geometry),
        lambda x, w, bias: functional.conv_transpose3d(x, w, bias, **geometry),
        [x, weight, _normal(k)],
        f"{list(x.shape)} {list(weight.shape)} {stride} {padding}",
        bool(rng.integers(2)),
    )


def _groups(rng: np.random.Generator, channels: int) -> int:
    return int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))


def _away(x: Tensor, z: Callable[[Tensor], Tensor]) -> Tensor:
    """x with what would be activated near the kink drawn again; groups move a little with it."""
    while True:
        near = z(x).abs() < MARGIN
        if not near.any():
            return x
        x = torch.where(near, _normal(*x.shape), x)


def norm_act(rng: np.random.Generator) -> Case:
    """Norm, affine and LeakyReLU, of any grouping."""
    b, c = int(rng.integers(1, 4)), int(rng.integers(1, 25))
    groups, slope = _groups(rng, c), float(rng.choice([0.0, 0.2, 1.0]))
    size, weight, bias = _ints(rng, 2, 9), _normal(c), _normal(c)
    mean = float(rng.choice([0.0, 3.0]))
    x = (_normal(b, c, *size) + mean).bfloat16().double()
    x = _away(x, lambda x: functional.group_norm(x, groups, weight, bias))
    return Case(
        lambda x, w, b: ops.norm_act(x, w, b, num_groups=groups, negative_slope=slope),
        lambda x, w, b: functional.leaky_relu(functional.group_norm(x, groups, w, b), slope),
        [x, weight, bias],
        f"{list(x.shape)} G{groups} slope {slope} mean {mean}",
        bool(rng.integers(2)),
    )


def bias_act(rng: np.random.Generator) -> Case:
    """Bias and LeakyReLU."""
    b, c, slope = int(rng.integers(1, 4)), int(rng.integers(1, 40)), float(rng.choice([0.0, 0.2]))
    bias = _normal(c)
    spread = bias.view(-1, 1, 1, 1)
    x = _away(_normal(b, c, *_ints(rng, 1, 9)), lambda x: x + spread)
    return Case(
        lambda x, bias: ops.bias_act(x, bias, negative_slope=slope),
        lambda x, bias: functional.leaky_relu(x + bias.view(-1, 1, 1, 1), slope),
        [x, bias],
        f"{list(x.shape)} slope {slope}",
        bool(rng.integers(2)),
    )


def norm_act_conv(rng: np.random.Generator) -> Case:
    """Norm and activation of z by its statistics, then a convolution."""
    kernel, stride, padding = _geometry(rng)
    b, c, k = int(rng.integers(1, 4)), _channels(rng), _channels(rng)
    groups, weight, bias = _groups(rng, c), _normal(c), _normal(c)
    z = _normal(b, c, *_ints(rng, 4, 9))
    z = _away(z, lambda z: functional.group_norm(z, groups, weight, bias))
    conv, settings = _normal(k, c, *kernel), {"stride": stride, "padding": padding}

    def ours(z: Tensor, w: Tensor, bias: Tensor, conv: Tensor) -> Tensor:
        statistics = ops.group_statistics(z, num_groups=groups, eps=1e-5)
        options = {"num_groups": groups, "next_groups": 0, **settings}
        return ops.norm_act_conv(z, statistics, w, bias, conv, **options)[0]

    def stock(z: Tensor, w: Tensor, bias: Tensor, conv: Tensor) -> Tensor:
        a = functional.leaky_relu(functional.group_norm(z, groups, w, bias), 0.2)
        return functional.conv3d(a, conv, **settings)

    label = f"{list(z.shape)} G{groups} {list(conv.shape)} {stride} {padding}"
    return Case(ours, stock, [z, weight, bias, conv], label, bool(rng.integers(2)))


def gradient_penalty(rng: np.random.Generator) -> Case:
    """The penalty of a critic of two convolutions; half of them with a norm. tanh has no kink."""
    b, c, k = int(rng.integers(1, 4)), int(rng.choice([1, 2])), _channels(rng)
    normed = bool(rng.integers(2)) and k > 1
    x = _normal(b, c, *_ints(rng, 5, 9))
    first, second = _normal(k, c, 3, 3, 3) / 4, _normal(1, k, 3, 3, 3) / 4
    affine = [_normal(k), _normal(k)] if normed else []

    def ours(x: Tensor, first: Tensor, second: Tensor, *affine: Tensor) -> Tensor:
        def critic(x: Tensor) -> Tensor:
            z = ops.conv3d(x, first, padding=1)
            if affine:
                z = ops.norm_act(z, *affine, num_groups=k, negative_slope=1.0)
            return ops.conv3d(torch.tanh(z), second).flatten(1).sum(1)

        return ops.gradient_penalty(critic, x, x).value

    def stock(x: Tensor, first: Tensor, second: Tensor, *affine: Tensor) -> Tensor:
        z = functional.conv3d(x, first, padding=1)
        if affine:
            z = functional.group_norm(z, k, *affine)
        score = functional.conv3d(torch.tanh(z), second).flatten(1).sum(1).sum()
        (slope,) = torch.autograd.grad(score, x, create_graph=True)
        norm = slope.flatten(1).norm(dim=1, dtype=torch.promote_types(x.dtype, torch.float32))
        return (norm - 1).square().mean()

    label = f"{list(x.shape)} K{k} normed {normed}"
    return Case(ours, stock, [x, first, second, *affine], label, bool(rng.integers(2)), False)


OPERATORS: dict[str, Callable[[np.random.Generator], Case]] = {
    f.__name__: f
    for f in (conv3d, conv_transpose3d, norm_act, bias_act, norm_act_conv, gradient_penalty)
}


def products(function: Function, case: Case, dtype: torch.dtype) -> list[Tensor]:
    """Value, gradients and their gradients, the latter two of cotangents equal for every dtype."""
    draw = torch.Generator().manual_seed(1)

    def cotangent(t: Tensor) -> Tensor:
        values = torch.randn(t.shape, generator=draw, dtype=torch.float64)
        return values.bfloat16().to(t.dtype)

    leaves = []
    for t in case.inputs:
        t = t.to(dtype)
        if t.dim() == 5 and case.channels_last:
            t = t.contiguous(memory_format=LAST)
        leaves.append(t.requires_grad_())
    y = function(*leaves)
    if not case.second:
        return [y.detach(), *torch.autograd.grad(y, leaves[1:])]
    g = cotangent(y).requires_grad_()
    first = torch.autograd.grad(y, leaves, g, create_graph=True)
    tested = [(d * cotangent(d)).double().sum() for d in first]
    second = torch.autograd.grad(sum(tested), [g, *leaves], allow_unused=True)
    zeros = [torch.zeros_like(t) for t in (g, *leaves)]
    filled = [z if d is None else d for d, z in zip(second, zeros, strict=True)]
    return [y.detach(), *(d.detach() for d in first), *filled]


def worst(found: Sequence[Tensor], exact: Sequence[Tensor], dtype: torch.dtype) -> list[float]:
    """Error of each product; half a unit in the last place where it is below."""
    least = torch.finfo(dtype).eps / 2
    errors = []
    for f, e in zip(found, exact, strict=True):
        scale = e.abs().max().item()
        error = (f.double() - e).abs().max().item()
        errors.append(max(error / scale, least) if scale > 0 else max(error, least))
    return errors


def both_errors(case: Case, dtype: torch.dtype) -> list[tuple[float, float, bool]]:
    """Of each product our error and PyTorch's, and whether it has many numbers.

    Ours is infinite where it is NaN. Products of which PyTorch's is NaN are left out: some weight
    gradients of its convolutions are wrong on AVX-512.
    """
    exact = products(case.stock, case, torch.float64)
    ours = worst(products(case.ours, case, dtype), exact, dtype)
    stock = worst(products(case.stock, case, dtype), exact, dtype)
    return [
        (math.inf if math.isnan(a) else a, b, e.numel() >= MANY)
        for a, b, e in zip(ours, stock, exact, strict=True)
        if math.isfinite(b)
    ]


class Summary(NamedTuple):
    """What a study of one operator in one dtype found."""

    shapes: int
    mean: float  # geometric, of the ratios of all products
    worst: float  # of products of many numbers
    worst_shape: str
    above: int  # shapes with such a product above WORST
    worst_of_few: float  # of products of few numbers
    above_of_few: int
    few: float  # likewise all together: root mean square of our errors over that of PyTorch's


def study(name: str, dtype: torch.dtype, shapes: int, seed: int) -> Summary:
    """Ratios of one operator over random shapes."""
    rng = np.random.default_rng([seed, list(OPERATORS).index(name)])
    torch.manual_seed(seed)
    logs: list[float] = []
    few: list[tuple[float, float]] = []
    most, most_shape, above, most_of_few, above_of_few = 1.0, "", 0, 1.0, 0
    for _ in range(shapes):
        case = OPERATORS[name](rng)
        found = both_errors(case, dtype)
        ratios = [a / b for a, b, _ in found]
        logs += map(math.log, ratios)
        few += [(a, b) for a, b, many in found if not many]
        large = max([a / b for a, b, many in found if many], default=1.0)
        small = max([a / b for a, b, many in found if not many], default=1.0)
        above, above_of_few = above + (large > WORST), above_of_few + (small > WORST)
        most_of_few = max(most_of_few, small)
        if large > most:
            most, most_shape = large, f"{case.label}, product {ratios.index(large)}"
    mean = math.exp(sum(logs) / len(logs))
    together = math.dist([a for a, _ in few], [0.0] * len(few)) if few else 1.0
    together /= math.dist([b for _, b in few], [0.0] * len(few)) if few else 1.0
    return Summary(shapes, mean, most, most_shape, above, most_of_few, above_of_few, together)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    results = Path(__file__).resolve().parents[1] / "results"
    parser.add_argument("--out", type=Path, default=results)
    args = parser.parse_args()
    capability = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
    path = args.out / f"cpu-{capability}" / "error-study.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"torch": torch.__version__, "seed": args.seed, "operators": {}}
    for name in OPERATORS:
        for dtype in DTYPES:
            found = study(name, dtype, args.shapes, args.seed)
            key = f"{name}, {str(dtype).removeprefix('torch.')}"
            report["operators"][key] = found._asdict()
            print(f"{key:28} mean {found.mean:.3f}  worst {found.worst:.2f}", end="  ")
            print(f"above {WORST}: {found.above}, of few numbers {found.above_of_few}", end="  ")
            print(
                f"({found.worst_of_few:.2f}, together {found.few:.2f})  {found.worst_shape}",
                flush=True,
            )
            path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
