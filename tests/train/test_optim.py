from __future__ import annotations

import pytest
import torch
from torch import nn

from fastgan.train.optim import PhaseOptimiser, lr_factor


def _parameters():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, 3, generator=generator)
    return {
        "w": nn.Parameter(weight.to(memory_format=torch.channels_last_3d)),
        "b": nn.Parameter(torch.randn(4, generator=generator)),
    }


def test_matches_the_formula_of_adam():
    parameters = _parameters()
    weight = parameters["w"].detach().double().clone()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    optimiser = PhaseOptimiser(parameters, lr=0.1, betas=(0.5, 0.9))
    for t in range(1, 4):
        g = torch.randn(weight.shape, generator=torch.Generator().manual_seed(t))
        # Contiguous gradients of a channels-last weight: strides that differ.
        parameters["w"].grad = g.clone()
        optimiser.scale_rate(0.5)
        optimiser.step(torch.zeros(()))
        first = 0.5 * first + 0.5 * g
        second = 0.9 * second + 0.1 * g.double() ** 2
        scaled = (second / (1 - 0.9**t)).sqrt() + 1e-8
        weight -= 0.05 * first / (1 - 0.5**t) / scaled
    torch.testing.assert_close(parameters["w"].detach().double(), weight, rtol=1e-5, atol=1e-6)


def test_skip_touches_nothing():
    parameters = _parameters()
    optimiser = PhaseOptimiser(parameters, lr=0.1, betas=(0.0, 0.9))
    for parameter in parameters.values():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step(torch.zeros(()))
    held = {**parameters, **optimiser.tensors()}
    before = {name: tensor.detach().clone() for name, tensor in held.items()}
    parameters["w"].grad.fill_(float("nan"))
    optimiser.step(torch.ones(()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in held.items())
    assert before["w.step"] == 1.0
    parameters["w"].grad.fill_(1.0)
    optimiser.step(torch.zeros(()))
    assert not torch.equal(parameters["w"], before["w"])
    assert optimiser.tensors()["w.step"] == 2.0


def test_state_is_complete_before_the_first_step():
    optimiser = PhaseOptimiser(_parameters(), lr=0.1, betas=(0.0, 0.9))
    names = {f"{p}.{m}" for p in "wb" for m in ("step", "exp_avg", "exp_avg_sq")}
    assert optimiser.tensors().keys() == names
    assert optimiser.gradients() == []


@pytest.mark.parametrize(
    ("step", "steps", "expected"),
    [(0, 10, 1.0), (5, 10, 1.0), (6, 10, 0.8), (9, 10, 0.2), (0, 1, 1.0), (2, 3, 0.5)],
)
def test_linear_decay(step, steps, expected):
    assert lr_factor(step, steps, "linear") == pytest.approx(expected)
    assert lr_factor(step, steps, "none") == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_bits_as_pytorch_s_own_optimiser(dtype):
    ours, stock = _parameters(), _parameters()
    ours, stock = (
        {n: nn.Parameter(p.detach().to(dtype)) for n, p in d.items()} for d in (ours, stock)
    )
    adam = torch.optim.Adam(stock.values(), lr=3e-4, betas=(0.5, 0.9), fused=True)
    optimiser = PhaseOptimiser(ours, lr=3e-4, betas=(0.5, 0.9))
    for step in range(6):
        adam.param_groups[0]["lr"] = 3e-4 * lr_factor(step, 6, "linear")
        for name, parameter in stock.items():
            parameter.grad = torch.randn_like(parameter)
            ours[name].grad = parameter.grad.clone()
        adam.step()
        optimiser.scale_rate(lr_factor(step, 6, "linear"))
        optimiser.step(torch.zeros(()))
        for name, parameter in stock.items():
            assert torch.equal(ours[name], parameter)
            for moment in ("step", "exp_avg", "exp_avg_sq"):
                held = optimiser.tensors()[f"{name}.{moment}"]
                assert torch.equal(held, adam.state[parameter][moment])


def test_parameters_of_two_dtypes_and_one_without_a_gradient():
    parameters = {
        "a": nn.Parameter(torch.ones(3)),
        "b": nn.Parameter(torch.ones(2, dtype=torch.float64)),
        "c": nn.Parameter(torch.ones(2)),
    }
    optimiser = PhaseOptimiser(parameters, lr=0.1, betas=(0.0, 0.9))
    for name in "ab":
        parameters[name].grad = torch.ones_like(parameters[name])
    optimiser.step(torch.zeros(()))
    assert parameters["a"].tolist() == pytest.approx([0.9] * 3)
    assert parameters["b"].tolist() == pytest.approx([0.9] * 2)
    assert parameters["c"].tolist() == [1.0] * 2
    assert [optimiser.tensors()[f"{n}.step"].item() for n in "abc"] == [1.0, 1.0, 0.0]


def test_the_rate_changes_where_it_is():
    """So that whatever has captured it reads the new one; the host copies nothing."""
    optimiser = PhaseOptimiser(_parameters(), lr=0.1, betas=(0.0, 0.9))
    rate = optimiser._rate
    place = rate.data_ptr()
    optimiser.scale_rate(0.5)
    assert rate.item() == 0.05 and optimiser._rate is rate and rate.data_ptr() == place
    version = rate._version
    optimiser.scale_rate(0.5)
    assert rate._version == version


@pytest.mark.parametrize(
    ("shape", "stride", "moved"), [((1, 6), (1, 1), False), ((2, 3), (1, 2), True)]
)
def test_a_gradient_is_moved_where_its_elements_lie_elsewhere(shape, stride, moved):
    weight = nn.Parameter(torch.zeros(shape))
    gradient = torch.arange(1.0, 7.0).as_strided(shape, stride)
    weight.grad = gradient
    optimiser = PhaseOptimiser({"w": weight}, lr=0.1, betas=(0.0, 0.9))
    optimiser.step(torch.zeros(()))
    assert (weight.grad.data_ptr() != gradient.data_ptr()) == moved
    assert torch.equal(optimiser.tensors()["w.exp_avg"], gradient)
