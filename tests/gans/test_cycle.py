"""CycleGAN: losses in closed form, order of updates, pictures and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.gans import CycleGAN, CycleSettings, build_cycle
from fastgan.random import Draws
from tests.gans.linear_cycle import ONE, linear


def column(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, *ONE)


def given(a: Tensor, b: Tensor) -> Callable[[str], SimpleNamespace]:
    return lambda purpose: SimpleNamespace(volumes=a, volumes_b=b)


RNG = np.random.default_rng(0)
A, B = column(1.0, -3.0), column(0.5, 2.0, -1.0)


def test_generator_loss_in_closed_form() -> None:
    loss, metrics, fakes = linear(lambda_cycle=4.0, lambda_identity=0.5).generator_loss(
        A, B, rng=RNG
    )
    on_ab = -0.2 + 0.5 * 2.0 * A
    on_ba = 0.1 + 0.3 * 0.25 * B
    expected = {
        "adversarial_AB": (on_ab - 1).square().mean() / 2,
        "adversarial_BA": (on_ba - 1).square().mean() / 2,
        # 2 * 0.25 = 1/2 of everything comes back.
        "cycle_A": 0.5 * A.abs().mean(),
        "cycle_B": 0.5 * B.abs().mean(),
        "identity_A": 0.75 * A.abs().mean(),
        "identity_B": 1.0 * B.abs().mean(),
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value, msg=name)
    whole = (
        expected["adversarial_AB"]
        + expected["adversarial_BA"]
        + 4.0 * (expected["cycle_A"] + expected["cycle_B"])
        + 2.0 * (expected["identity_A"] + expected["identity_B"])
    )
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(fakes["fake_b"], 2.0 * A)
    torch.testing.assert_close(fakes["fake_a"], 0.25 * B)
    assert not any(t.requires_grad for t in (*metrics.values(), *fakes.values()))


def test_without_identity_the_translators_are_not_run_on_their_own_domain() -> None:
    gan = linear(lambda_identity=0.0)
    seen: list[Tensor] = []
    gan.modules["G_AB"].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    _, metrics, _ = gan.generator_loss(A, B, rng=RNG)
    assert "identity_A" not in metrics and len(seen) == 2
    assert torch.equal(seen[0], A) and torch.equal(seen[1], 0.25 * B)


@pytest.mark.parametrize("objective", ["least-squares", "hinge"])
def test_critic_loss_in_closed_form(objective: str) -> None:
    fake_a, fake_b = column(0.0, 4.0), column(-2.0, 1.0, 3.0)
    loss, metrics = linear(objective=objective).critic_loss(A, B, fake_a, fake_b, rng=RNG)
    expected = torch.zeros(())
    for offset, slope, real, fake, domain in (
        (0.1, 0.3, A, fake_a, "A"),
        (-0.2, 0.5, B, fake_b, "B"),
    ):
        on_real, on_fake = offset + slope * real, offset + slope * fake
        if objective == "hinge":
            expected = expected + (1 - on_real).relu().mean() + (1 + on_fake).relu().mean()
        else:
            expected = expected + (on_real - 1).square().mean() / 2 + on_fake.square().mean() / 2
        torch.testing.assert_close(metrics[f"score_real_{domain}"], on_real.mean())
        torch.testing.assert_close(metrics[f"score_fake_{domain}"], on_fake.mean())
    torch.testing.assert_close(loss, expected)


def test_noise_is_on_everything_the_critics_see_and_repeats() -> None:
    seen: dict[float, list[Tensor]] = {}
    for sigma in (0.0, 0.5):
        gan = linear(critic_noise=sigma, pool_size=0)
        for name in ("D_A", "D_B"):
            gan.modules[name].register_forward_pre_hook(
                lambda _m, inputs, sigma=sigma: seen.setdefault(sigma, []).append(inputs[0])
            )
        many = torch.linspace(-1.0, 1.0, 500).view(-1, *ONE)
        for _ in range(2):
            for phase in gan.phases(3, given(many, many), Draws(0)):
                phase.loss()
    assert len(seen[0.0]) == len(seen[0.5]) == 8
    noise = [noisy - plain for noisy, plain in zip(seen[0.5], seen[0.0], strict=True)]
    for first, again in zip(noise[:4], noise[4:], strict=True):
        assert torch.equal(first, again)
        # Of 500 draws or more: five standard errors of a standard deviation are 16 %.
        assert first.std().item() == pytest.approx(0.5, rel=0.16)
    flat = torch.stack([one[:500].flatten() for one in noise[:4]])
    assert (torch.corrcoef(flat) - torch.eye(4)).abs().max() < 0.25


def test_generators_move_first_and_critics_see_what_was_translated_before() -> None:
    gan, seen = linear(pool_size=0), []
    gan.modules["D_B"].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].clone()))
    phases = gan.phases(0, given(A[:2], B[:2]), Draws(0))
    first = next(phases)
    assert (first.name, first.updates) == ("generator", ("G_AB", "G_BA"))
    first.loss()[0].backward()
    with torch.no_grad():
        gan.modules["G_AB"].factor.fill_(100.0)
    second = next(phases)
    assert (second.name, second.updates) == ("critic", ("D_A", "D_B"))
    gan.modules["G_AB"].zero_grad()
    second.loss()[0].backward()
    # The critic's pass: real volumes of B, then the translations of the first phase.
    torch.testing.assert_close(seen[-1], torch.cat([B[:2], 2.0 * A[:2]]))
    assert gan.modules["G_AB"].factor.grad is None
    assert next(phases, None) is None


def cycle(**settings: Any) -> CycleGAN:
    own = {field.name for field in fields(CycleSettings)}
    given = SMALL | settings
    game = CycleSettings(**{k: v for k, v in given.items() if k in own})
    return build_cycle(game, **{k: v for k, v in given.items() if k not in own})


def test_critics_are_shown_the_pool() -> None:
    gan, seen = linear(pool_size=2), []
    gan.modules["D_A"].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0][2:]))
    for step in range(12):
        for phase in gan.phases(step, given(A, column(float(step), -float(step))), Draws(0)):
            phase.loss()
    # Every other pass of D_A is the critics' phase; 0.25 b is what G_BA makes.
    shown = torch.cat(seen[1::2]).flatten().abs() / 0.25
    late = [step > int(s) for step, s in zip(np.repeat(range(12), 2), shown, strict=True)]
    assert any(late) and not all(late)
    assert gan.modules["pool_A"].filled == 2


SMALL: dict[str, Any] = {
    "shape": (8, 8, 4),
    "translator_channels": (4, 6),
    "translator_blocks": 1,
    "patch_critic_channels": (4, 6),
    "pool_size": 3,
}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"translator": "unet", "objective": "hinge", "spectral_norm": True},
        {"fold": (2, 2, 1), "generator_norm": "none", "critic_norm": "instance", "channels": 2},
        {"translator_kernel": 1, "lambda_identity": 0.0, "objective": "non-saturating"},
    ],
    ids=lambda s: "-".join(map(str, s.values())) or "-",
)
def test_steps_train_only_the_phase_s_modules(settings: dict[str, Any]) -> None:
    gan = cycle(**settings)
    for step in range(2):
        a, b = torch.randn(2, 2, settings.get("channels", 1), 8, 8, 4).tanh().unbind()
        for phase in gan.phases(step, given(a, b), Draws(0)):
            for name, module in gan.modules.items():
                module.requires_grad_(name in phase.updates)
            before = {n: [p.clone() for p in m.parameters()] for n, m in gan.modules.items()}
            parameters = [p for n in phase.updates for p in gan.modules[n].parameters()]
            adam = torch.optim.Adam(parameters, 1e-3)
            loss, metrics = phase.loss()
            loss.backward()
            assert loss.isfinite() and all(p.grad is not None for p in parameters)
            assert all(m.dim() == 0 and not m.requires_grad for m in metrics.values())
            adam.step()
            for name, module in gan.modules.items():
                after = list(module.parameters())
                moved = [not torch.equal(x, y) for x, y in zip(before[name], after, strict=True)]
                assert sum(moved) >= len(moved) // 2 if name in phase.updates else not any(moved)


def test_bfloat16_autocast() -> None:
    gan = cycle()
    a, b = torch.randn(2, 2, 1, 8, 8, 4).tanh().unbind()
    exact, _, _ = gan.generator_loss(a, b, rng=RNG)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _, _ = gan.generator_loss(a, b, rng=RNG)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)


def test_pictures_are_source_translation_and_reconstruction() -> None:
    pictures = linear().pictures(given(A, B), Draws(0))
    assert pictures.columns == 3
    lines = pictures.volumes.flatten().view(-1, 3)
    there, back = 2.0, 0.25
    rows = [[x, there * x, back * there * x] for x in A.flatten()]
    rows += [[x, back * x, back * there * x] for x in B[:2].flatten()]
    torch.testing.assert_close(lines, torch.tensor(rows))


@pytest.mark.parametrize("same_contrast", [False, True])
def test_pictures_raise_the_alarm_for_a_negative(same_contrast: bool) -> None:
    """Bodies in dark air become dark bodies in bright air; without air only contrast can tell."""
    far = torch.linspace(-1, 1, 16).square()
    ball = (far[:, None, None] + far[:, None] + far < 0.7).float()
    body = (2.0 * ball - 1.0).expand(3, 1, 16, 16, 16)
    tissue = torch.rand(3, 1, 16, 16, 16)
    gan = linear(ab=-1.0, ba=1.0, same_contrast=same_contrast)
    seen = gan.pictures(given(body, body), Draws(0)).metrics
    assert seen["alarm/inverted_AB"] == 1.0 and seen["background_order_AB"] == 0.0
    assert seen["alarm/inverted_BA"] == 0.0 and seen["background_order_BA"] == 1.0
    assert seen["alarm/drifted_AB"] == seen["alarm/drifted_BA"] == 0.0
    seen = gan.pictures(given(tissue, tissue), Draws(0)).metrics
    assert seen["alarm/inverted_AB"] == float(same_contrast)
    assert seen["alarm/inverted_BA"] == 0.0


def test_pictures_say_how_far_translations_are_from_their_domain() -> None:
    rng = np.random.default_rng(0)
    drawn: list[str] = []

    def of_one_domain(purpose: str) -> SimpleNamespace:
        drawn.append(purpose)
        a, b = torch.from_numpy(rng.random((2, 4, 1, 12, 12, 12), dtype=np.float32))
        return SimpleNamespace(volumes=a, volumes_b=b)

    seen = linear(ab=1.0, ba=-1.0).pictures(of_one_domain, Draws(0)).metrics
    assert drawn == ["pictures", "pictures/1", "pictures/2", "pictures/3"]
    assert 0.0 < seen["patch_distance_AB"] < 0.1 and seen["patch_distance_BA"] > 0.3
    small = torch.zeros(1, 1, 4, 12, 12)
    assert "patch_distance_AB" not in linear().pictures(given(small, small), Draws(0)).metrics


def test_initial_weights_are_a_function_of_the_seed() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (cycle(seed=seed) for seed in (3, 3, 4))
    assert torch.equal(state, torch.random.get_rng_state())
    for name, module in first.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, again.modules[name].state_dict()[key])
    weights = [gan.modules[n].head.weight for gan in (first, other) for n in ("G_AB", "G_BA")]
    assert all(not torch.equal(x, y) for i, x in enumerate(weights) for y in weights[:i])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "wgan-gp"}, "choose least-squares, hinge or non-saturating"),
        ({"objective": "hing"}, "did you mean 'hinge'"),
        ({"lambda_cycle": -1.0}, "lambda_cycle: must be >= 0, got -1.0"),
        ({"lambda_identity": -0.5}, "lambda_identity: must be >= 0, got -0.5"),
        ({"critic_noise": -0.1}, "critic_noise: must be >= 0, got -0.1"),
        ({"pool_size": -1}, "pool_size"),
        ({"translator": "resnt"}, "did you mean 'resnet'"),
        (
            {"shape": (8, 8, 5), "fold": (2, 2, 2)},
            "axis 2 of shape 8x8x5 is not divisible by fold 2",
        ),
    ],
)
def test_rejects_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cycle(**settings)
