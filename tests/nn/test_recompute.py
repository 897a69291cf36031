"""A pass that is computed again is the same pass: values, gradients and notes, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fastgan.errors import ConfigError
from fastgan.models import build_critic, build_generator, build_translator
from fastgan.nn import notes_of, recomputed, restore_notes
from fastgan.ops import gradient_penalty

CRITIC: dict[str, Any] = {
    "shape": (8, 8, 8),
    "critic_channels": (4, 8),
    "norm": "instance",
}


def networks() -> dict[str, tuple[nn.Module, tuple[Tensor | None, ...]]]:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 8, 8, 8)
    labels = torch.tensor([0, 1, 1, 0])
    critics = {
        name: build_critic(**CRITIC | more)
        for name, more in {
            "dcgan": {"architecture": "dcgan"},
            "residual": {"architecture": "residual", "minibatch_stddev": 2},
            "spectral": {"architecture": "dcgan", "spectral_norm": True, "num_classes": 2},
        }.items()
    }
    translator = build_translator(
        architecture="unet",
        shape=(8, 8, 8),
        translator_channels=(4, 8),
        blocks=1,
        norm="instance",
    )
    generator = build_generator(
        architecture="dcgan",
        shape=(8, 8, 8),
        latent_dim=4,
        generator_channels=(8, 4),
        norm="group",
        num_classes=2,
    )
    return {
        "dcgan": (critics["dcgan"], (x, None)),
        "residual": (critics["residual"], (x,)),
        "spectral": (critics["spectral"], (x, labels)),
        "unet": (translator, (x,)),
        "generator": (generator, (torch.randn(4, 4), labels)),
    }


def outcome(
    network: nn.Module, inputs: tuple[Tensor | None, ...], again: bool, dtype: torch.dtype | None
) -> list[Tensor]:
    """The result, the gradients of input and parameters, and the buffers afterwards."""
    x, *rest = inputs
    assert x is not None
    x = x.clone().requires_grad_()
    network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is not None):
        y = recomputed(network, x, *rest) if again else network(x, *rest)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    y.backward(cotangent.to(y.dtype))
    gradients = [x.grad, *(p.grad for p in network.parameters())]
    assert all(g is not None for g in gradients)
    return [y.detach(), *gradients, *network.buffers()]  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["dcgan", "residual", "spectral", "unet", "generator"])
def test_the_same_bits(name: str, dtype: torch.dtype | None) -> None:
    network, inputs = networks()[name]
    notes = notes_of(network)
    plain = [t.clone() for t in outcome(network, inputs, False, dtype)]
    restore_notes(network, notes)
    for found, wanted in zip(outcome(network, inputs, True, dtype), plain, strict=True):
        assert torch.equal(found, wanted)


def test_nothing_is_kept_but_inputs_and_parameters() -> None:
    network, (x, *_) = networks()["residual"]
    assert x is not None
    own = {t.untyped_storage().data_ptr() for t in (x, *network.parameters())}

    def kept(again: bool) -> int:
        found: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = recomputed(network, x) if again else network(x)
        assert y.requires_grad
        return sum(size for place, size in found.items() if place not in own)

    assert kept(again=True) == 0 < kept(again=False)


def test_a_second_derivative_is_refused_before_it_could_be_zero() -> None:
    network, (x, *_) = networks()["dcgan"]
    assert x is not None
    x = x.clone().requires_grad_()
    score = recomputed(network, x).sum()
    with pytest.raises(ConfigError, match="no second derivative"):
        torch.autograd.grad(score, x, create_graph=True)
    with pytest.raises(ConfigError, match="no second derivative"):
        gradient_penalty(lambda x: recomputed(network, x), x.detach(), -x.detach())


def test_frozen_parameters_and_no_gradients() -> None:
    network, (x, *_) = networks()["dcgan"]
    assert x is not None
    network.requires_grad_(False)
    assert not recomputed(network, x).requires_grad
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(recomputed(network, x).sum(), x)
    (wanted,) = torch.autograd.grad(network(x).sum(), x)
    assert torch.equal(found, wanted)
    with torch.no_grad():
        assert not recomputed(network, x).requires_grad


def test_notes_are_taken_once() -> None:
    layer = parametrizations.spectral_norm(nn.Linear(3, 3))
    other = parametrizations.spectral_norm(nn.Linear(3, 3))
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3)
    recomputed(layer, x).sum().backward()
    other(x)
    assert all(map(torch.equal, layer.buffers(), other.buffers()))
