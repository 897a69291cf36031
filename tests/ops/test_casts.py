"""Weights lent to their uses: the same bits, in values, gradients and second derivatives."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan import ops
from fastgan.models import build_critic, build_generator
from fastgan.ops.casts import cast, lent

HALF = torch.bfloat16


class Narrowed(TorchDispatchMode):
    """Sizes of what is cast from float32 to bfloat16, one tensor at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "_to_copy" and result.dtype == HALF and args[0].dtype == torch.float32:
            self.sizes.append(args[0].shape)
        return result


def networks(norm: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    common = {"architecture": "dcgan", "shape": (8, 8, 8), "norm": norm}
    critic = build_critic(critic_channels=(4, 8), **common)
    return build_generator(latent_dim=3, generator_channels=(8, 4), **common), critic


def step(
    norm: str, once: bool, half: bool = True
) -> tuple[list[Tensor], list[torch.Size], list[torch.Size]]:
    """Gradients of a loss with penalty, what was cast, and the shapes of all weights."""
    generator, critic = networks(norm)
    weights = [*generator.parameters(), *critic.parameters()]
    narrowed, z = Narrowed(), torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    real = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    share = torch.tensor([0.25, 0.75])
    with narrowed:
        held = lent(weights, HALF if half else None) if once else nullcontext()
        with torch.autocast("cpu", HALF, enabled=half), held as loans:
            fake = generator(z)
            penalty = ops.gradient_penalty(critic, real, fake, share=share).value
            loss = critic(fake).square().mean() - critic(real).mean() + 10.0 * penalty
        loss.backward()
        if loans is not None:
            loans.collect()
    gradients = [w.grad for w in weights if w.grad is not None]
    return gradients, narrowed.sizes, [w.shape for w in weights]


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_gradients_are_the_same_bits(norm: str) -> None:
    plain, before, _ = step(norm, once=False)
    found, after, shapes = step(norm, once=True)
    assert len(plain) == len(found) > 8
    assert all(torch.equal(f, p) for f, p in zip(found, plain, strict=True))
    assert all(f.dtype == torch.float32 and f.abs().max() > 0 for f in found)
    # Convolutions' weights and biases were cast at each of their uses, and now at none.
    of_convolutions = {shape for shape in shapes if len(shape) == 5}
    assert sum(size in of_convolutions for size in before) >= 8
    assert not any(size in of_convolutions for size in after) and len(after) < len(before)


def test_what_changes_after_the_block_is_cast_anew() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    with lent([weight], HALF):
        assert cast(weight, HALF).tolist() == [1.0] * 3
        assert cast(weight, HALF).requires_grad
        # Another dtype, another tensor: cast as always.
        assert cast(weight, torch.float16).dtype == torch.float16
        assert cast(2 * weight, HALF).tolist() == [2.0] * 3
        with torch.no_grad():
            assert not cast(weight, HALF).requires_grad
    with torch.no_grad():
        weight.mul_(3.0)
    assert cast(weight, HALF).tolist() == [3.0] * 3


def test_the_block_ends_with_an_error_too() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(KeyError), lent([weight], HALF):
        raise KeyError
    with torch.no_grad():
        weight.zero_()
    assert cast(weight, HALF).tolist() == [0.0] * 3


def test_derivatives_of_every_order() -> None:
    weight, x = torch.nn.Parameter(torch.tensor([2.0])), torch.ones(1, requires_grad=True)
    with lent([weight], HALF) as loans:
        narrow = cast(weight, HALF)
        assert narrow.dtype == HALF
        cube = (x * narrow.float() ** 3).sum()
        (slope,) = torch.autograd.grad(cube, x, create_graph=True)
    slope.sum().backward()
    assert weight.grad is None
    loans.collect()
    assert weight.grad is not None and weight.grad.item() == 12.0


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_in_float32_each_use_is_the_weight_itself(norm: str) -> None:
    plain, _, _ = step(norm, once=False, half=False)
    found, _, _ = step(norm, once=True, half=False)
    # Behind a norm a penalty has two gradients in a weight, which are one use's: another order.
    rounding = 0.0 if norm == "none" else 1e-6
    for f, p in zip(found, plain, strict=True):
        torch.testing.assert_close(f, p, rtol=rounding, atol=rounding * p.abs().max().item())
    weight = torch.nn.Parameter(torch.ones(3))
    with lent([weight]):
        assert cast(weight, torch.float32).data_ptr() == weight.data_ptr()


def test_collecting_adds_to_what_is_there() -> None:
    weight, other = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    with lent([weight, other], HALF) as loans:
        total = (cast(weight, HALF) * 2 + cast(weight, HALF) * 3).sum() + (weight * 4).sum()
    total.backward()
    loans.collect()
    loans.collect()
    assert weight.grad is not None and weight.grad.tolist() == [9.0, 9.0] and other.grad is None


def test_a_weight_with_a_hook_is_not_lent() -> None:
    seen: list[Tensor] = []
    for register in ("register_hook", "register_post_accumulate_grad_hook"):
        weight = torch.nn.Parameter(torch.ones(2))
        getattr(weight, register)(lambda g: seen.append(g))
        with lent([weight], HALF) as loans:
            total = (cast(weight, HALF) * 2).sum()
        total.backward()
        loans.collect()
        assert weight.grad is not None and weight.grad.tolist() == [2.0, 2.0]
    assert len(seen) == 2


def test_half_a_thousand_uses_add_up_in_float32() -> None:
    """In bfloat16 the sum would stop at 256, where one more is rounded away."""
    weight = torch.nn.Parameter(torch.ones(()))
    with lent([weight], HALF) as loans:
        total = sum(cast(weight, HALF).float() for _ in range(500))
    total.backward()
    loans.collect()
    assert weight.grad is not None and weight.grad.item() == 500.0
