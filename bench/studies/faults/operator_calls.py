"""Arguments that hardly fit, and public operators called with them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan import ops

__all__ = [
    "DTYPES",
    "GIANTS",
    "SIZES",
    "any_number",
    "any_tensor",
    "argument",
    "of_operators",
    "told",
]

GIANTS = (2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -1, -(2**63), 0)
SIZES = (0, 1, 1, 2, 3, 4, 5, 8, 16, 17)
DTYPES = (torch.float32,) * 8 + (
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
)


def argument(kind: str, rng: random.Random) -> object:
    if kind == "sizes":
        return [any_number(rng) for _ in range(3)]
    if kind == "int":
        return any_number(rng)
    if kind == "float":
        return rng.choice((0.2, 1e-5, 0.0, -1.0, 1e30, float("nan"), float("inf")))
    if kind == "str":
        return rng.choice(("auto", "exact", "", "x" * 99, "\0"))
    if rng.random() < 0.05:
        return rng.choice((None, 3, "x", object(), [1, 2]))
    return None if rng.random() < 0.08 else any_tensor(rng)


def any_number(rng: random.Random) -> int:
    return rng.choice(GIANTS) if rng.random() < 0.15 else rng.choice((1, 1, 1, 2, 2, 3, 4, 8))


def any_tensor(rng: random.Random) -> Tensor:
    """A tensor of any shape, dtype and layout: strided, expanded, on no device."""
    dims = rng.choice((0, 1, 1, 2, 2, 3, 5, 5, 5, 5))
    sizes = [rng.choice(SIZES) for _ in range(dims)]
    dtype = rng.choice(DTYPES)
    x = torch.zeros(sizes) if rng.random() < 0.2 else torch.randn(sizes)
    if rng.random() < 0.05 and x.numel():
        x.view(-1)[0] = rng.choice((float("nan"), float("inf"), 1e38))
    x = x.to(dtype)
    way = rng.randrange(14)
    if way <= 4 and dims == 5:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    elif way == 5 and dims:
        x = x.transpose(0, dims - 1)
    elif way == 6 and dims and x.shape[0] > 1:
        x = x[::2]
    elif way == 7 and dims:
        x = x[:1].expand(rng.choice(SIZES[1:]), *sizes[1:]) if sizes[0] else x
    elif way == 8:
        x = x.to("meta")
    elif way == 10 and x.is_floating_point():
        x.requires_grad_()
    elif way == 11 and dims == 2:
        x = x.to_sparse()
    return x


def of_operators(rng: random.Random) -> tuple[str, Callable[[], object]]:
    name = rng.choice((*_CALLS, *_CALLS, "any"))
    if name == "any":
        name = rng.choice([*_CALLS])
        arguments = [argument("tensor", rng) for _ in range(rng.randint(1, 4))]
        keywords: dict[str, Any] = {}
    else:
        arguments, keywords = _CALLS[name](rng)
    function = getattr(ops, name)

    def call() -> None:
        result = function(*arguments, **keywords)
        leaf = next((a for a in arguments if isinstance(a, Tensor) and a.requires_grad), None)
        if leaf is not None and isinstance(result, Tensor) and result.requires_grad:
            (first,) = torch.autograd.grad(
                result.square().sum(), leaf, create_graph=True, allow_unused=True
            )
            if first is not None and first.requires_grad:
                torch.autograd.grad(first.square().sum(), leaf, allow_unused=True)

    return f"{name}({told(arguments)} {keywords})"[:400], call


def _near(rng: random.Random, *sizes: int) -> Tensor:
    """A tensor of about these sizes: mostly right, now and then of another."""
    if rng.random() < 0.15:
        return any_tensor(rng)
    x = torch.randn([n if rng.random() < 0.97 else rng.choice(SIZES) for n in sizes])
    x = x.to(rng.choice(DTYPES[:10]))
    if len(sizes) == 5 and rng.random() < 0.6:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    return x.requires_grad_(x.is_floating_point() and rng.random() < 0.4)


def _conv(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    c, k = rng.choice((1, 2, 4, 8, 16)), rng.choice((1, 3, 8, 16))
    sizes = [rng.choice(SIZES) for _ in range(3)]
    kernel = [rng.choice((1, 2, 3, 4)) for _ in range(3)]
    keys = {"stride": any_number(rng), "padding": any_number(rng)}
    x, weight = _near(rng, rng.choice((0, 1, 2)), c, *sizes), _near(rng, k, c, *kernel)
    return [x, weight, None if rng.random() < 0.5 else _near(rng, k)], keys


def _conv_transpose(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    (x, weight, bias), keys = _conv(rng)
    if isinstance(weight, Tensor) and weight.dim() == 5:
        weight = weight.transpose(0, 1)
    return [x, weight, bias], keys | {"output_padding": rng.choice((0, 0, 1, any_number(rng)))}


def _norm_act(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    b, c = rng.choice((0, 1, 2)), rng.choice((1, 2, 4, 16))
    x = _near(rng, b, c, *[rng.choice(SIZES) for _ in range(3)])
    weight = rng.choice((None, _near(rng, c), _near(rng, b, c)))
    keys = {"num_groups": rng.choice((1, c, 2, any_number(rng))), "negative_slope": 0.2}
    return [x, weight, None if weight is None else _near(rng, c)], keys


def _bias_act(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    c = rng.choice((1, 2, 16))
    x = _near(rng, 2, c, *[rng.choice(SIZES) for _ in range(3)])
    return [x, rng.choice((None, _near(rng, c)))], {"negative_slope": rng.choice((0.0, 0.2, 1.0))}


def _fold(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    return [_near(rng, 1, 8, 4, 4, 4), rng.choice((1, 2, [1, 2, 2], any_number(rng)))], {}


def _nearest(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    features = rng.choice((1, 3, 8, 64))
    query, target = (_near(rng, rng.choice(SIZES), features) for _ in range(2))
    return [query, target], {"k": any_number(rng)}


def _smooth(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    return [_near(rng, 1, 2, *[rng.choice(SIZES) for _ in range(3)])], {}


_CALLS: dict[str, Callable[[random.Random], tuple[list[Any], dict[str, Any]]]] = {
    "conv3d": _conv,
    "conv_transpose3d": _conv_transpose,
    "norm_act": _norm_act,
    "bias_act": _bias_act,
    "fold": _fold,
    "unfold": _fold,
    "nearest": _nearest,
    "smooth": _smooth,
}


def told(arguments: list[Any]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, Tensor):
            stride = [*value.stride()] if value.layout == torch.strided else value.layout
            return f"{value.dtype} {[*value.shape]} {stride} {value.device}"
        return repr(value)[:60]

    return ", ".join(map(one, arguments))
