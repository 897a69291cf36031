from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan import ops
from fastgan.errors import ConfigError
from fastgan.ops import gradient_penalty
from fastgan.reference.gradient_penalty import gradient_penalty as reference

CHANNELS = (1, 3, 4)


def parameters(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {"head": (1, CHANNELS[-1], 2, 2, 2)}
    for i, (c, k) in enumerate(pairwise(CHANNELS)):
        shapes |= {f"conv{i}": (k, c, 4, 4, 4), f"gamma{i}": (k,), f"beta{i}": (k,)}
    return {
        name: (torch.randn(s, generator=draw, dtype=torch.float64) / 3).to(dtype).requires_grad_()
        for name, s in shapes.items()
    }


def score(x: Tensor, p: dict[str, Tensor], norm: bool, own: bool) -> Tensor:
    """Three convolutions, by our operators or by PyTorch's."""
    conv = ops.conv3d if own else functional.conv3d
    for i in range(2):
        x = conv(x, p[f"conv{i}"], stride=2, padding=1)
        gamma, beta = p[f"gamma{i}"], p[f"beta{i}"]
        if norm and own:
            x = ops.norm_act(x, gamma, beta, num_groups=x.shape[1])
        elif norm:
            x = functional.leaky_relu(functional.group_norm(x, x.shape[1], gamma, beta), 0.2)
        elif own:
            x = ops.bias_act(x, beta)
        else:
            x = functional.leaky_relu(x + beta.view(1, -1, 1, 1, 1), 0.2)
    return conv(x, p["head"]).flatten()


def volumes(dtype: torch.dtype = torch.float64, count: int = 3) -> Tensor:
    return torch.randn(count, 1, 8, 8, 8).to(dtype).to(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_forward_matches_reference(one_sided, target, device) -> None:
    p = {k: v.detach().to(device) for k, v in parameters().items()}
    x = volumes().to(device)
    found = gradient_penalty(
        lambda t: score(t, p, True, True), x, x, target=target, one_sided=one_sided
    )
    value, norms = reference(
        lambda t: score(t, p, True, False), x, target=target, one_sided=one_sided
    )
    torch.testing.assert_close(tuple(found), (value, norms))
    assert found.norms.shape == (3,) and not found.norms.requires_grad


def test_mixes_one_share_a_sample() -> None:
    real, fake = volumes(), volumes()
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square().flatten(1).sum(1)

    gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(5))
    share = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    share = share.view(3, 1, 1, 1, 1)
    torch.testing.assert_close(seen[0], share * real + (1 - share) * fake)
    assert seen[0].is_contiguous(memory_format=torch.channels_last_3d)


def test_same_object_is_not_mixed() -> None:
    real = volumes()
    found = gradient_penalty(lambda x: x.square().flatten(1).sum(1) / 2, real, real, target=0.0)
    torch.testing.assert_close(found.value, real.square().flatten(1).sum(1).mean())


def both_penalties(norm: bool) -> tuple[dict[str, Tensor], Any, Any]:
    p, real, x = parameters(), volumes(), volumes()

    def ours() -> Tensor:
        def critic(t: Tensor) -> Tensor:
            return score(t, p, norm, True)

        return critic(real).mean() + 10 * gradient_penalty(critic, x, x).value

    def stock() -> Tensor:
        def critic(t: Tensor) -> Tensor:
            return score(t, p, norm, False)

        return critic(real).mean() + 10 * reference(critic, x)[0]

    return p, ours, stock


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
def test_penalty_reaches_parameters(norm, backend, compiled) -> None:
    p, ours, stock = both_penalties(norm)
    stock().backward()
    expected = {name: t.grad for name, t in p.items()}
    for t in p.values():
        t.grad = None
    compiled(ours, backend)().backward()
    for name, t in p.items():
        if expected[name] is None:  # gamma of the critic without norm
            assert t.grad is None and name.startswith("gamma") and not norm
        else:
            torch.testing.assert_close(t.grad, expected[name], msg=f"{name} of {backend}")


class Passes(TorchDispatchMode):
    """Counts convolution operators, each of which is one pass (test_one_pass_an_operator)."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "conv" in func.__name__:
            self.names.append(func.__name__.partition(".")[0].removeprefix("conv_"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("by", ["backward", "grad"])
@pytest.mark.parametrize(
    ("norm", "fprop", "dgrad", "wgrad"), [(False, 5, 3, 3), (True, 5, 4, 5)], ids=["plain", "norm"]
)
def test_convolution_passes(norm, fprop, dgrad, wgrad, by) -> None:
    # 4 L - 1 without norm; 6 L - 4 where all but the last of L convolutions are normalised.
    p, x = parameters(), volumes()
    with Passes() as passes:
        value = gradient_penalty(lambda t: score(t, p, norm, True), x, x).value
        if by == "backward":
            value.backward()
        else:
            torch.autograd.grad(value, list(p.values()), allow_unused=True)
    assert sorted(passes.names) == ["dgrad"] * dgrad + ["fprop"] * fprop + ["wgrad"] * wgrad


def test_zero_slope_has_zero_gradient() -> None:
    w = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 8).double()
    for target in (0.0, 1.0):
        found = gradient_penalty(lambda t: t @ w, x, x, target=target)
        assert found.value == target**2 and torch.equal(found.norms, torch.zeros(2).double())
        (g,) = torch.autograd.grad(found.value, w)
        assert torch.equal(g, torch.zeros_like(w))


def test_labels_reach_the_critic() -> None:
    x, labels = volumes(), torch.tensor([0, 1, 2])
    found = gradient_penalty(
        lambda x, y: (1 + y) * x[:, 0, 0, 0, 0], x, x, labels=labels, target=0.0
    )
    torch.testing.assert_close(found.norms, torch.tensor([1.0, 2.0, 3.0]).double())


def test_detached_from_real_and_fake() -> None:
    real, fake, p = volumes().requires_grad_(), volumes().requires_grad_(), parameters()
    gradient_penalty(lambda t: score(t, p, True, True), real, fake).value.backward()
    assert real.grad is None and fake.grad is None and p["conv0"].grad is not None
    assert real.requires_grad and fake.requires_grad


def test_no_grad_still_measures() -> None:
    x, p = volumes(), parameters()
    with torch.no_grad():
        found = gradient_penalty(lambda t: score(t, p, False, True), x, x)
    assert found.norms.min() > 0


def test_autocast() -> None:
    p, x = parameters(torch.float32), volumes(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradient_penalty(lambda t: score(t, p, True, True), x, x)
    _, norms = reference(
        lambda t: score(t, {k: v.double() for k, v in p.items()}, True, False), x.double()
    )
    assert found.value.dtype == torch.float32
    torch.testing.assert_close(found.norms.double(), norms, rtol=0.05, atol=0.0)
    found.value.backward()
    assert p["conv0"].grad is not None and p["conv0"].grad.dtype == torch.float32
    assert p["conv0"].grad.isfinite().all()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_head_outside_autocast_is_differentiated_outside_it(compiled) -> None:
    """As the critics' own: bfloat16 would keep three digits of its weights, which are its slope."""
    x, weight = torch.randn(2, 1, 2, 2, 2), torch.randn(1, 8, requires_grad=True)

    def critic(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return functional.linear(x.flatten(1), weight).squeeze(1)

    def norms(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found = gradient_penalty(critic, x, x)
        return found.norms

    measured = torch.compile(norms, backend="aot_eager")(x) if compiled else norms(x)
    torch.testing.assert_close(measured, weight.norm().expand(2), rtol=1e-6, atol=0.0)


X = torch.zeros(2, 1, 2, 2, 2)
REJECTED = [
    ((lambda x: x.sum(), X, X), {}, r"the critic must return \[2\], got \[\]"),
    (
        (lambda x: x.flatten(1)[:, :1], X, X),
        {},
        r"the critic must return \[2\]; add squeeze\(1\).*, got \[2, 1\]",
    ),
    ((lambda x: torch.ones(2), X, X), {}, r"scores must depend on x"),
    ((lambda x: torch.ones(2, requires_grad=True), X, X), {}, r"scores must depend on x"),
    ((lambda x: x, X, X[:1]), {}, r"fake must be \[2, 1, 2, 2, 2\] like real, got \[1"),
    ((lambda x: x, X, X.double()), {}, r"fake must be torch.float32 like real, got torch.float64"),
    ((lambda x: x, X, X.to("meta")), {}, r"fake must be on cpu like real, got meta"),
    ((lambda x: x, X[:0], X[:0]), {}, r"real must hold at least one sample"),
    ((lambda x: x, X.int(), X.int()), {}, r"real must be float16, bfloat16, float32 or float64"),
    ((lambda x: x, X, X), {"labels": torch.zeros(3)}, r"labels must be \[2, ...\]"),
    ((lambda x: x, X, X), {"target": -1.0}, r"target must be >= 0"),
    ((lambda x: x, X, -X), {"share": torch.ones(3)}, r"share must be torch.float32 \[2\] on cpu"),
    ((lambda x: x, X, -X), {"share": torch.ones(2).double()}, r"share must be torch.float32 \[2\]"),
]


@pytest.mark.parametrize(("args", "settings", "message"), REJECTED)
def test_rejects_bad_arguments(args, settings, message) -> None:
    with pytest.raises(ConfigError, match=f"gradient_penalty: .*{message}"):
        gradient_penalty(*args, **settings)


def test_a_share_drawn_before_is_what_a_generator_draws() -> None:
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten(1).square().sum(1)

    real, fake = torch.randn(2, 2, 1, 2, 2, 2).unbind()
    gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(5))
    share = torch.rand(2, generator=torch.Generator().manual_seed(5))
    gradient_penalty(critic, real, fake, share=share)
    assert torch.equal(seen[0], seen[1])
    gradient_penalty(critic, real, fake, share=torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(seen[2], torch.stack([real[0], fake[1]]))


def test_a_compiled_critic_is_answered_with_what_to_compile() -> None:
    x = torch.randn(2, 1, 2, 2, 2)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 1), torch.nn.Flatten(0))
    compiled = torch.compile(net, backend="aot_eager")
    found = gradient_penalty(compiled, x, -x)
    torch.testing.assert_close(found.norms, gradient_penalty(net, x, -x).norms)
    with pytest.raises(ConfigError, match="compile the function that computes the whole"):
        found.value.backward()
    whole = torch.compile(lambda: gradient_penalty(net, x, x).value, backend="aot_eager")
    whole().backward()
    assert net[1].weight.grad is not None and net[1].weight.grad.abs().sum() > 0
