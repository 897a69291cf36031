"""Kernels as PyTorch operators whose second derivatives are exact wherever PyTorch runs.

The derivative sits at the dispatcher's Autograd key: torch.compile sees one opaque node, and eager
mode, AOTAutograd and torch.func all run the same formula. No way to a kernel leads around it.
`torch.library.custom_op` and `register_autograd` are refused by torch.func, and a plain
`autograd.Function` loses its second derivative without an error once Dynamo has seen it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

import fastgan
from fastgan.ops.casts import cast
from fastgan.spans import ranged

__all__ = ["KERNELS", "NAMESPACE", "Grads", "operator", "wanted"]

# torch.compile's disk cache knows an operator by its name alone, so a changed derivative needs a
# changed name: the version is part of it.
NAMESPACE = "fastgan_" + re.sub(r"\W", "_", fastgan.__version__)


def _private(path: str) -> Any:
    """A name of torch that carries no promise, or an ImportError that says what is missing."""
    module, _, names = path.partition(":")
    try:
        return reduce(getattr, names.split("."), __import__(module, fromlist=["_"]))
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"fastgan needs {path} of torch, which torch {torch.__version__} does not have; "
            "install a torch version that fastgan is tested with"
        ) from error


_below_autograd = _private("torch._C:_AutoDispatchBelowAutograd")
_excluded = _private("torch._C:_ExcludeDispatchKeyGuard")
_keys = _private("torch._C:DispatchKeySet")
_key = _private("torch._C:DispatchKey")
_any_requires_grad = _private("torch._C:_any_requires_grad")
_inside_torch_func = _private("torch._C:_are_functorch_transforms_active")
_engine_executes = _private("torch._C:_will_engine_execute_node")
_single_level = _private("torch._functorch.utils:enable_single_level_autograd_function")
_SingleLevelFunction = _private("torch.autograd.function:_SingleLevelFunction")
_set_forward_mode = _private("torch.autograd.forward_ad:_set_fwd_grad_enabled")
_forward_ad = _private("torch.autograd:forward_ad")
_private("torch.autograd.forward_ad:_current_level")

# Operators live as long as this object.
_Library: Any = torch.library.Library
_LIBRARY = _Library(NAMESPACE, "DEF")
_DEVICES = ("CPU", "CUDA")
_AUTOCAST = reduce(lambda a, b: a | b, (_keys(getattr(_key, f"Autocast{d}")) for d in _DEVICES))
_REDUCIBLE = (torch.float32, torch.float16, torch.bfloat16)

Grads = tuple[Tensor | None, ...]

KERNELS: dict[Any, Callable[..., Any]] = {}
"""Operator -> what computes it, for programs that must do without the operators."""


def operator(
    schema: str,
    *,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Any], None],
    backward: Callable[..., Grads],
    autocast: bool = False,
) -> Callable[..., Any]:
    """Define an operator of the namespace and return it.

    Args:
        schema: name and types in PyTorch's schema language; all arguments positional, none with a
            default (the dispatcher drops arguments that equal theirs).
        kernel: computes the outputs; autograd does not see inside. Outputs are fresh tensors.
        fake: outputs of the right shape, dtype and strides without data.
        setup_context: as of `torch.autograd.Function`.
        backward: (ctx, *gradients of the outputs) -> gradients of the arguments, None where there
            is none. An undefined gradient arrives as None. It calls operators and differentiable
            torch functions only, so that it has a derivative itself.
        autocast: cast floating arguments to autocast's dtype. Without it autocast changes nothing.

    Derivatives: reverse mode to the order that `backward` has; forward mode is refused.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    op = getattr(getattr(torch.ops, NAMESPACE), name).default
    KERNELS[op] = kernel
    kernel = ranged(name, kernel)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
    node = _node(name, op, setup_context, backward)

    def autograd(*args: Any) -> Any:
        tracked = torch.is_grad_enabled() and _any_requires_grad(*args)
        # Under forward mode the node is always made: it refuses loudly instead of returning zeros.
        if not tracked and _forward_ad._current_level < 0:
            with _below_autograd():
                return op(*args)
        if not _inside_torch_func():
            return node.apply(*args)
        with _single_level():
            return node.apply(*args)

    _LIBRARY.impl(name, autograd, "Autograd")
    for device in _DEVICES:
        _LIBRARY.impl(name, kernel, device)
        if autocast:
            _LIBRARY.impl(name, _autocast_kernel(op, device), f"Autocast{device}")
    return op  # type: ignore[no-any-return]


def wanted(ctx: Any, i: int) -> bool:
    """Will this backward run use the gradient of argument i?

    `ctx.needs_input_grad` is true for every parameter, also while only the gradient of the input
    is asked for; the engine knows. Argument i must be among the tensors that lead the schema.
    """
    if not ctx.needs_input_grad[i]:
        return False
    if torch.compiler.is_dynamo_compiling():
        return True
    edge = ctx.next_functions[ctx.edge_of[i]][0]
    try:
        if not _engine_executes(edge):
            return False
    except RuntimeError:  # a leaf that autograd.grad was asked for
        return True
    return _leads_somewhere(edge)


def _leads_somewhere(edge: Any) -> bool:
    """Not so where a path without forks ends at a leaf that stopped requiring gradients.

    That is how ops.gradient_penalty spares its x, behind whatever views, a pass that nobody needs.
    """
    while (leaf := getattr(edge, "variable", None)) is None:
        following = [node for node, _ in edge.next_functions if node is not None]
        if len(following) != 1:
            return True
        edge = following[0]
    return bool(leaf.requires_grad)


def _node(
    name: str,
    op: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Any], None],
    backward: Callable[..., Grads],
) -> Any:
    def forward(*args: Any) -> Any:
        if not _inside_torch_func():
            with _below_autograd():
                return op(*args)
        # apply() switched gradients off; without them the enclosing level silently records nothing.
        with torch.enable_grad(), _set_forward_mode(True), _below_autograd():
            return op(*args)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.edge_of = _edges(inputs)
        setup_context(ctx, inputs, output)

    def derivative(ctx: Any, *grads: Tensor | None) -> Grads:
        # Undefined in, undefined out: no sweep over zeros.
        if all(g is None for g in grads):
            return (None,) * len(ctx.needs_input_grad)
        # A derivative has the dtypes its forward had, whatever autocast says by now.
        with _excluded(_AUTOCAST):
            return backward(ctx, *grads)

    members = {
        "forward": staticmethod(forward),
        "setup_context": staticmethod(setup),
        "backward": staticmethod(derivative),
        "_compiled_autograd_key": staticmethod(
            _private("torch.autograd:Function._compiled_autograd_key")
        ),
    }
    # autograd.Function itself belongs above the dispatcher.
    return type(name, (_SingleLevelFunction,), members)


def _edges(inputs: Sequence[Any]) -> list[int]:
    """Place of every argument among the node's edges, which only tensors have."""
    places, tensors = [], 0
    for value in inputs:
        places.append(tensors)
        tensors += isinstance(value, Tensor)
    return places


def _autocast_kernel(op: Callable[..., Any], device: str) -> Callable[..., Any]:
    """Cast to the dtype the user chose (torch.library.register_autocast fixes one beforehand)."""

    def narrowed(*args: Any) -> Any:
        dtype = torch.get_autocast_dtype(device.lower())
        with _excluded(_AUTOCAST):
            return op(
                *(cast(a, dtype) if getattr(a, "dtype", None) in _REDUCIBLE else a for a in args)
            )

    return narrowed
