from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastgan.ops.slope_penalty import slope_penalty_bwd, slope_penalty_fwd, slope_penalty_mix
from fastgan.reference.slope_penalty import slope_penalty as reference

SETTINGS = [(target, one_sided) for target in (0.0, 3.0) for one_sided in (False, True)]


@pytest.fixture(params=SETTINGS, ids=str)
def settings(request: pytest.FixtureRequest) -> tuple[float, bool]:
    return request.param


def slopes(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Of norms 1, 2, 2.75, 4 and 6: on both sides of a target of 3, none at it."""
    directions = torch.nn.functional.normalize(torch.randn(5, 24), dim=1)
    norms = torch.tensor([1.0, 2.0, 2.75, 4.0, 6.0])
    return (directions * norms[:, None]).view(5, 2, 2, 2, 3).to(device, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_by_hand(dtype: torch.dtype, device: torch.device, close: Callable[..., None]) -> None:
    """Norms 5 and 2: one-sided, a slope below the target neither costs nor is pulled."""
    slope = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=dtype, device=device).requires_grad_()
    for target, one_sided, wanted, gradient in [
        (3.0, False, (2**2 + 1**2) / 2, [[1.2, 1.6], [0.0, -1.0]]),
        (3.0, True, 2**2 / 2, [[1.2, 1.6], [0.0, 0.0]]),
        (0.0, False, (5**2 + 2**2) / 2, [[3.0, 4.0], [0.0, 2.0]]),
        (0.0, True, (5**2 + 2**2) / 2, [[3.0, 4.0], [0.0, 2.0]]),
        (6.0, True, 0.0, [[0.0, 0.0], [0.0, 0.0]]),
    ]:
        value, norms = slope_penalty_fwd(slope, target, one_sided)
        (d_slope,) = torch.autograd.grad(value, slope)
        close([value.detach()], [torch.tensor(wanted, dtype=torch.float64)], dtype)
        close([norms], [torch.tensor([5.0, 2.0])], dtype)
        close([d_slope], [torch.tensor(gradient, dtype=torch.float64)], dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_forward_and_derivatives_match_reference(dtype, settings, device, orders, close) -> None:
    target, one_sided = settings
    slope = slopes(dtype, device)

    def ours(t: Tensor) -> Tensor:
        return slope_penalty_fwd(t, target, one_sided)[0]

    def stock(t: Tensor) -> Tensor:
        return reference(t, target=target, one_sided=one_sided)[0]

    for found, expected in zip(
        orders(ours, [slope]), orders(stock, [slope.double().cpu()]), strict=True
    ):
        close(found, expected, dtype)
    _, norms = slope_penalty_fwd(slope, target, one_sided)
    close([norms], [slope.double().flatten(1).norm(dim=1)], dtype)


def test_gradgradcheck(settings) -> None:
    slope = slopes(torch.float64, torch.device("cpu")).requires_grad_()

    def function(t: Tensor) -> Tensor:
        return slope_penalty_fwd(t, *settings)[0]

    assert torch.autograd.gradcheck(function, slope)
    assert torch.autograd.gradgradcheck(function, slope)


def test_mix_is_differentiable() -> None:
    real, fake = (torch.randn(3, 2, 4).double().requires_grad_() for _ in range(2))
    share = torch.rand(3).double().requires_grad_()
    assert torch.autograd.gradcheck(slope_penalty_mix, (real, fake, share))
    assert torch.autograd.gradgradcheck(slope_penalty_mix, (real, fake, share))


def test_opcheck(device) -> None:
    settings = (3.0, True)
    slope = slopes(torch.float32, device).requires_grad_()
    _, norms = slope_penalty_fwd(slope.detach(), *settings)
    g = torch.rand((), device=device).requires_grad_()
    torch.library.opcheck(slope_penalty_fwd, (slope, *settings))
    torch.library.opcheck(slope_penalty_bwd, (g, slope, norms, *settings))
    share = torch.rand(5, device=device)
    torch.library.opcheck(slope_penalty_mix, (slope, torch.randn_like(slope), share))


def test_zero_slope_has_zero_gradient(device) -> None:
    slope = torch.zeros(2, 1, 3, device=device, requires_grad=True)
    value, _ = slope_penalty_fwd(slope, 1.0, False)
    (d_slope,) = torch.autograd.grad(value, slope)
    assert value.item() == 1.0 and torch.equal(d_slope, torch.zeros_like(slope))
