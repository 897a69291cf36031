"""Errors of an operator and its derivatives beside PyTorch's in the same dtype, against float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DTYPES", "ORDERS", "Case", "Result", "compare", "derivatives"]

# Largest geometric mean of the ratios, by dtype; and the largest single one.
MEANS = {"float32": 1.0, "bfloat16": 1.2, "float64": 1.0}
WORST = 2.5
# Of float64 against float64, relative to the largest value.
EXACT = 1e-11
DTYPES = (torch.float32, torch.bfloat16, torch.float64)
ORDERS = ("forward", "backward", "second")

Function = Callable[..., Tensor]


class Result(NamedTuple):
    """What was found."""

    figures: dict[str, float]
    problems: list[str]  # empty: correct


class Case(NamedTuple):
    """An operator of ours on its inputs, and the same by PyTorch's own functions."""

    name: str
    ours: Function
    stock: Function
    inputs: list[Tensor]  # float32 numbers that bfloat16 holds
    dtypes: tuple[torch.dtype, ...] = DTYPES


def compare(cases: Iterator[Case], device: torch.device, *, by_mean: bool = True) -> Result:
    """Ratios of the largest errors over all cases, and where one breaks the rule.

    Args:
        cases: what is compared.
        device: where.
        by_mean: hold the geometric mean to its bound, too; of a few cases it says nothing.
    """
    ratios: dict[str, list[float]] = {}
    problems: list[str] = []
    for case in cases:
        exact = derivatives(case.stock, case, torch.float64, device)
        for dtype in case.dtypes:
            own = derivatives(case.ours, case, dtype, device)
            again = derivatives(case.ours, case, dtype, device)
            stock = derivatives(case.stock, case, dtype, device)
            orders = zip(own, again, stock, exact, strict=True)
            for order, results in zip(ORDERS, orders, strict=True):
                key = f"{str(dtype).removeprefix('torch.')} {order}"
                for ours, repeated, peer, truth in zip(*results, strict=True):
                    if not torch.equal(ours, repeated):
                        problems.append(f"{case.name}: {key} differs between two runs")
                    if not truth.any() and not ours.any():
                        continue  # nothing there to be wrong, and it would flatter the mean
                    ratio = _ratio(ours, peer, truth, dtype)
                    if not ratio <= WORST:
                        problems.append(f"{case.name}: {key} has {ratio:.3g} times PyTorch's error")
                    ratios.setdefault(key, []).append(ratio)
    figures: dict[str, float] = {}
    for key, found in ratios.items():
        mean = math.exp(sum(math.log(max(r, 1e-3)) for r in found) / len(found))
        if not by_mean:
            figures[f"{key}, large, worst"] = round(max(found), 3)
            continue
        figures |= {f"{key} mean": round(mean, 3), f"{key} worst": round(max(found), 3)}
        bound = MEANS[key.split()[0]]
        if not mean <= bound:
            problems.append(f"{key}: geometric mean of error ratios is {mean:.3g}, allowed {bound}")
    return Result(figures, problems)


def _ratio(ours: Tensor, peer: Tensor, truth: Tensor, dtype: torch.dtype) -> float:
    """Largest error over PyTorch's, of which half a unit in the last place is the least."""
    size = float(truth.abs().max())
    error = float((ours.double() - truth).abs().max())
    if dtype == torch.float64:
        return error / (EXACT * max(size, 1e-3))
    least = 0.5 * torch.finfo(dtype).eps * max(size, 1e-3)
    return error / max(float((peer.double() - truth).abs().max()), least)


def derivatives(
    function: Function, case: Case, dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Value, first and second derivative, by cotangents drawn from a seed."""
    draw = torch.Generator(device).manual_seed(1)

    def cotangent(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=draw, device=device).bfloat16().to(t.dtype)

    leaves = [t.to(device, dtype).requires_grad_() for t in case.inputs]
    y = function(*leaves)
    g = cotangent(y).requires_grad_()
    first = torch.autograd.grad(y, leaves, g, create_graph=True)
    mixed = sum((d * cotangent(d)).sum() for d in first)
    assert isinstance(mixed, Tensor)
    second = torch.autograd.grad(mixed, [g, *leaves], allow_unused=True)
    both = zip(second, [g, *leaves], strict=True)
    zeros = [torch.zeros_like(t) if d is None else d for d, t in both]
    return [y.detach()], [d.detach() for d in first], zeros
