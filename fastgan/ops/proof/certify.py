"""Correctness of an implementation on this machine against float64: what a certificate says.

An operator is run over seeded random shapes, value, first and second derivative, beside what
PyTorch does in the same dtype, TF32 switched off. The rule is that of the tests: the geometric mean
of (our largest error / PyTorch's) is at most 1.0 in float32 and 1.2 in bfloat16, no single one is
above 2.5, two runs agree bit for bit, and float64 agrees with float64.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from fastgan.ops.bias_act import bias_act
from fastgan.ops.checks import accumulator
from fastgan.ops.conv3d import conv3d
from fastgan.ops.fold import fold, unfold
from fastgan.ops.implementations.dispatch import implementation
from fastgan.ops.nearest import nearest
from fastgan.ops.norm_act import norm_act
from fastgan.ops.proof.channels import conv3d_trial, norm_act_conv_trial
from fastgan.ops.proof.draws import FORMS, integer, normal, served
from fastgan.ops.proof.error_ratios import ORDERS, Case, Result, compare, derivatives
from fastgan.ops.proof.production import LARGE, joined
from fastgan.ops.slope_penalty import slope_penalty_fwd, slope_penalty_mix
from fastgan.ops.smooth import smooth
from fastgan.ops.tensor_float import tensor_float32
from fastgan.reference.smooth import smooth as plain_smooth

__all__ = ["TRIALS", "Result", "certify"]

# Of distances: relative to the largest value.
DISTANCE = 1e-6
# Of the penalty on the slope, in units in the last place of the largest value.
UNITS = 64.0
# Least distance from the activation's kink, where rounding would decide the slope of either side.
MARGIN = 3e-6


def certify(
    op: str, name: str, device: torch.device, *, shapes: int = 24, large: bool = False
) -> Result:
    """Run the trial of an operator with one implementation.

    Args:
        op: name of an operator, such as "norm_act".
        name: of its implementations, such as "triton".
        device: where.
        shapes: random shapes to draw.
        large: sizes of production, too.
    """
    trial = TRIALS.get(op)
    if trial is None:
        return Result({}, [f"no trial of {op} is written (fastgan.ops.proof.certify.TRIALS)"])
    with implementation(name), _poisoned(), tensor_float32(False):
        found = trial(torch.Generator().manual_seed(shapes), device, shapes)
        if large and op in LARGE:
            found = joined([found, LARGE[op](device)])
        return found


@contextmanager
def _poisoned() -> Iterator[None]:
    """Uninitialised memory is NaN, so that nothing unwritten passes for a result."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)


# Beside the random ones: one channel, more than a tile holds; many channels.
_SIZES = [(1, 1, 17, 19, 23), (2, 64, 12, 12, 12)]
# Two or three elements are normalised to nearly the same whatever they are: all digits cancel.
_LEAST_GROUP = 8


def _sizes(draw: torch.Generator, shapes: int) -> list[tuple[int, ...]]:
    drawn = [
        (integer(draw, 1, 3), integer(draw, 1, 40), *(integer(draw, 1, 16) for _ in range(3)))
        for _ in range(shapes)
    ]
    return [*(s for s in drawn if math.prod(s[2:]) >= _LEAST_GROUP), *_SIZES]


def _norm_act(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    def cases() -> Iterator[Case]:
        for i, sizes in enumerate(_sizes(draw, shapes)):
            channels = sizes[1]
            divisors = [n for n in range(1, channels + 1) if channels % n == 0]
            groups = divisors[integer(draw, 0, len(divisors) - 1)] if i % 3 else channels
            slope, affine = (0.2, 0.0, 0.1)[i % 3], sizes[1 - i % 2 : 2]

            def stock(
                x: Tensor, w: Tensor, b: Tensor, groups: int = groups, slope: float = slope
            ) -> Tensor:
                # One rounding, also for an affine of each sample's own.
                z, samples = (x, 1) if w.dim() == 1 else (x.reshape(1, -1, *x.shape[2:]), len(x))
                z = functional.group_norm(z, samples * groups, w.flatten(), b.flatten())
                return functional.leaky_relu(z, slope).view(x.shape)

            def ours(
                x: Tensor, w: Tensor, b: Tensor, groups: int = groups, slope: float = slope
            ) -> Tensor:
                return norm_act(x, w, b, num_groups=groups, negative_slope=slope)

            x = (1 + 2 * normal(draw, *sizes)).bfloat16().float()
            x = x.contiguous(memory_format=FORMS[i % 2])
            weight = normal(draw, *affine)
            while True:
                bias = normal(draw, *affine)
                z = stock(x.double(), weight.double(), bias.double(), slope=1.0)
                if z.abs().min() > MARGIN:
                    break
            name = f"{list(sizes)}, {groups} groups"
            yield Case(name, ours, stock, [x, weight, bias], served("norm_act", device))

    return compare(cases(), device)


def _bias_act(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    def cases() -> Iterator[Case]:
        for i, sizes in enumerate(_sizes(draw, shapes)):
            # Odd multiples of 2^-5 and multiples of 2^-4: no sum is zero, none is rounded.
            x = (torch.randint(-31, 31, sizes, generator=draw) + 0.5) / 16
            bias = torch.randint(-31, 31, sizes[1:2], generator=draw) / 16
            x = x.contiguous(memory_format=FORMS[i % 2])
            yield Case(f"{list(sizes)}", bias_act, _plain_bias_act, [x, bias])

    return compare(cases(), device)


def _plain_bias_act(x: Tensor, bias: Tensor) -> Tensor:
    return functional.leaky_relu(x + bias.view(1, -1, 1, 1, 1), 0.2)


def _slope_penalty(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    """Penalty at mixed slopes. One number a sample: its error beside PyTorch's is chance, so all
    derivatives are held to a few units in the last place of the largest value instead, or of what
    one unit of the inputs moves: a sum of terms that cancel has no digits of its own.
    """

    def ours(slope: Tensor, other: Tensor, share: Tensor, one_sided: bool) -> Tensor:
        mixed = slope_penalty_mix(slope, other, share.to(accumulator(slope)))
        penalty: Tensor = slope_penalty_fwd(mixed, 1.0, one_sided)[0]
        return penalty

    def stock(slope: Tensor, other: Tensor, share: Tensor, one_sided: bool) -> Tensor:
        mixed = torch.lerp(other, slope, share.view(-1, 1, 1, 1, 1))
        excess = torch.linalg.vector_norm(mixed.flatten(1), dim=1) - 1.0
        penalty: Tensor = (excess.clamp(min=0) if one_sided else excess).square().mean()
        return penalty

    problems: list[str] = []
    figures: dict[str, float] = {}
    for i, sizes in enumerate(_sizes(draw, shapes)):
        # Norms well on either side of the target: next to it all digits cancel.
        norm = torch.where(torch.arange(sizes[0]) % 2 == i % 2, 0.5, 2.0)
        scale = (norm / math.prod(sizes[1:]) ** 0.5).view(-1, 1, 1, 1, 1)
        slopes = [(normal(draw, *sizes) * scale).bfloat16().float() for _ in range(2)]
        slopes = [x.contiguous(memory_format=FORMS[i % 2]) for x in slopes]
        share = torch.rand(sizes[0], generator=draw).bfloat16().float()
        one_sided = i % 3 == 0
        case = Case(
            f"{list(sizes)}{', one-sided' if one_sided else ''}",
            partial(ours, one_sided=one_sided),
            partial(stock, one_sided=one_sided),
            [*slopes, share],
        )
        exact = derivatives(case.stock, case, torch.float64, device)
        for dtype in case.dtypes:
            own = derivatives(case.ours, case, dtype, device)
            unit = torch.finfo(dtype).eps
            moved = [
                derivatives(case.stock, case._replace(inputs=inputs), torch.float64, device)
                for inputs in _moved(case.inputs, unit)
            ]
            for order, results, truths, *others in zip(ORDERS, own, exact, *moved, strict=True):
                key = f"{str(dtype).removeprefix('torch.')} {order} worst"
                for found, truth, *near in zip(results, truths, *others, strict=True):
                    size = max(
                        float(truth.abs().max()) * unit,
                        *(float((other - truth).abs().max()) for other in near),
                    )
                    units = float((found.double() - truth).abs().max()) / max(size, 1e-300)
                    figures[key] = max(figures.get(key, 0.0), round(units, 2))
                    if not units <= UNITS:
                        problems.append(f"{case.name}: {key} is {units:.3g} units, allowed {UNITS}")
    return Result(figures, problems)


def _moved(inputs: list[Tensor], unit: float) -> Iterator[list[Tensor]]:
    """Inputs in float64 that are off by up to a unit in the last place, three times."""
    draw = torch.Generator().manual_seed(2)
    for _ in range(3):
        yield [
            x.double() * (1 + unit * (2 * torch.rand(x.shape, generator=draw) - 1).double())
            for x in inputs
        ]


_Sizes = tuple[int, ...]
_Convolution = tuple[_Sizes, int, _Sizes, _Sizes, _Sizes]
# Sizes of x, channels, kernel, stride and padding beside the random ones: several tiles of outputs
# along each axis, several pieces of a plane of inputs.
_CONVOLUTIONS: list[_Convolution] = [
    ((1, 1, 40, 70, 134), 16, (4, 4, 4), (2, 2, 2), (1, 1, 1)),
    ((2, 1, 9, 37, 71), 48, (3, 4, 3), (1, 2, 1), (1, 0, 2)),
    ((2, 1, 12, 70, 19), 32, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
]


def _conv3d(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    def random(i: int) -> _Convolution:
        sizes = (integer(draw, 1, 2), 1, *(integer(draw, 4, 12) for _ in range(3)))
        channels = 16 * integer(draw, 1, 2)
        return sizes, channels, (3 + i % 2,) * 3, (1 + i // 2 % 2,) * 3, (integer(draw, 0, 1),) * 3

    def cases() -> Iterator[Case]:
        drawn = [random(i) for i in range(shapes)]
        for sizes, channels, kernel, stride, padding in (*drawn, *_CONVOLUTIONS):
            ours = partial(conv3d, stride=stride, padding=padding)
            stock = partial(functional.conv3d, stride=stride, padding=padding)
            weight, bias = normal(draw, channels, 1, *kernel), normal(draw, channels)
            name = f"{list(sizes)}, weight {list(weight.shape)}, stride {stride}, padding {padding}"
            inputs = [normal(draw, *sizes), weight, bias]
            yield Case(name, ours, stock, inputs, (torch.float32, torch.bfloat16))

    return compare(cases(), device)


def _fold(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    """A permutation: squared, so that there is a second derivative."""

    def cases() -> Iterator[Case]:
        for i in range(shapes):
            factors = [integer(draw, 1, 3) for _ in range(3)]
            sizes = [factor * integer(draw, 1, 9) for factor in factors]
            x = normal(draw, integer(draw, 1, 2), integer(draw, 1, 3), *sizes)
            x = x.contiguous(memory_format=FORMS[i % 2])

            def ours(x: Tensor, factors: list[int] = factors) -> Tensor:
                return unfold(fold(x, factors).square(), factors)

            yield Case(f"{list(x.shape)}, {factors}", ours, torch.square, [x])

    return compare(cases(), device)


def _smooth(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    def cases() -> Iterator[Case]:
        for i, sizes in enumerate(_sizes(draw, shapes)):
            x = normal(draw, *sizes).contiguous(memory_format=FORMS[i % 2])
            yield Case(f"{list(sizes)}", smooth, plain_smooth, [x])

    return compare(cases(), device)


def _nearest(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    """Indices and distances against direct differences in float64, among them copies and ties."""
    problems: list[str] = []
    worst = 0.0
    for i in range(shapes):
        queries, targets, features = (integer(draw, 1, n) for n in (40, 90, 5000))
        dtype = (torch.float32, torch.bfloat16, torch.int16, torch.uint8)[i % 4]
        limit = {torch.int16: 3000, torch.uint8: 256}.get(dtype, 100)
        rows = torch.randint(0, limit, (queries + targets, features), generator=draw).double()
        if dtype.is_floating_point:
            rows = rows + torch.randn(rows.shape, generator=draw)
            rows[queries] = rows[0] + 1e-3 * torch.randn(features, generator=draw)
        rows[-1] = rows[queries]
        rows = rows.to(device, dtype)
        query, target = rows[:queries], rows[queries:]
        k = integer(draw, 1, min(5, targets))
        distance, index = nearest(query, target, k)
        exact = torch.stack([(q - target.double()).square().sum(1).sqrt() for q in query.double()])
        truth, order = exact.sort(dim=1, stable=True)
        name = f"[{queries}, {features}] and {targets}, {dtype}"
        if not torch.equal(index, order[:, :k]):
            problems.append(f"{name}: other neighbours than by float64")
        scale = truth[:, :k].clamp(min=1e-300)
        error = float(((distance - truth[:, :k]).abs() / scale).max())
        worst = max(worst, error)
        if not error <= DISTANCE:
            problems.append(f"{name}: relative error of a distance {error:.2g}")
    return Result({"distance worst": worst}, problems)


TRIALS: dict[str, Callable[[torch.Generator, torch.device, int], Result]] = {
    "norm_act": _norm_act,
    "bias_act": _bias_act,
    "slope_penalty": _slope_penalty,
    "conv3d": _conv3d,
    "conv3d_channels": conv3d_trial,
    "norm_act_conv": norm_act_conv_trial,
    "fold": _fold,
    "smooth": _smooth,
    "nearest": _nearest,
}
