"""AdversarialGAN: phases, losses, metrics, augmentation and sampling in a tiny setting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.gans import AdversarialGAN, Penalty
from fastgan.gans.augment import Moves
from fastgan.ops.tensor_float import tensor_float32
from fastgan.random import Draws
from tests.gans.small_game import CONDITIONAL, SHAPE, batches, step, variant

VARIANTS: list[dict[str, Any]] = [
    {},
    {**CONDITIONAL},
    {"architecture": "residual", "critic_norm": "instance", "penalty_interval": 3},
    {"objective": "non-saturating", "penalty": "r1", "penalty_weight": 1.0},
    {"objective": "minimax", "penalty": "none", **CONDITIONAL},
    {"objective": "hinge", "penalty": "none", "spectral_norm": True},
    {"objective": "least-squares", "penalty": "r2", "augment": ("flip", "shift", "intensity")},
    {"one_sided": True, "generator_norm": "none", "critic_norm": "layer", **CONDITIONAL},
    {"minibatch_stddev": 3, **CONDITIONAL},
    {"penalty": "none", "weight_clip": 0.05},
    {"penalty": "none", "weight_clip": 0.05, "architecture": "residual", **CONDITIONAL},
    {"objective": "non-saturating", "penalty": "none", **CONDITIONAL},
    {"objective": "least-squares", "penalty": "none", **CONDITIONAL},
    {"objective": "hinge", "penalty": "none", "spectral_norm": True, **CONDITIONAL},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: "-".join(map(str, s.values())) or "-")
def test_three_steps_train_only_the_phase_s_module(settings: dict[str, Any]) -> None:
    gan = variant(**settings)
    for number in range(3):
        metrics = step(gan, number, labelled="classes" in settings)
        assert [m["phase"] for m in metrics] == ["critic", "critic", "generator"]


@pytest.mark.parametrize("settings", VARIANTS[1:4] + VARIANTS[5:], ids=str)
def test_bfloat16_autocast(settings: dict[str, Any]) -> None:
    gan = variant(**settings)
    labelled = "classes" in settings
    exact = [p.loss()[0] for p in gan.phases(0, batches(labelled), Draws(0))]
    for expected, phase in zip(exact, gan.phases(0, batches(labelled), Draws(0)), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = phase.loss()
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected.item(), rel=0.1, abs=0.1)


def test_metrics_of_a_conditional_wgan_gp() -> None:
    first, last, generator = step(variant(**CONDITIONAL), 0, labelled=True)
    always = {"score_real", "score_fake", "wasserstein", "penalty", "gradient_norm"}
    always |= {"balance_gap", "balance_penalty", "balance_ratio"}
    watched = {"similarity_real", "similarity_fake", "collapse"}
    watched |= {"score_gap/benign", "score_gap/malignant"}
    assert set(first) - {"phase", "loss"} == always
    assert set(last) - {"phase", "loss"} == always | watched
    assert set(generator) - {"phase", "loss"} == {"score_fake"}
    expected = -last["wasserstein"] + 10 * last["penalty"]
    torch.testing.assert_close(last["loss"], expected)
    torch.testing.assert_close(last["wasserstein"], last["score_real"] - last["score_fake"])


@pytest.mark.parametrize("settings", [{}, {"minibatch_stddev": 3, **CONDITIONAL}], ids=str)
@pytest.mark.parametrize("one_sided", [False, True])
def test_balance_is_the_slope_of_the_loss_in_the_critic_s_scale(
    settings: dict[str, Any], one_sided: bool
) -> None:
    """d/dc of the loss of c f at c = 1; the spread of a minibatch enters scores and slopes alike.

    One-sided E[n max(n - 1, 0)] takes slopes above 1, so the critic is made steep.
    """
    gan = variant(**settings, one_sided=one_sided)
    critic = gan.modules["critic"]
    scaled = [*critic.head.parameters(), *(critic.embed.parameters() if settings else ())]
    with torch.no_grad():
        for parameter in scaled:
            parameter *= 3.0
    labels = torch.tensor([0, 1, 1, 1, 0, 0]) if settings else None
    loss, metrics = gan.critic_loss(
        torch.rand(6, 1, *SHAPE), torch.randn(6, 4), labels, rng=np.random.default_rng(0)
    )
    # c f is the head's and the embedding's parameters times c, so d/dc is their inner product.
    found = sum(
        (g * p).sum() for g, p in zip(torch.autograd.grad(loss, scaled), scaled, strict=True)
    )
    expected = metrics["balance_penalty"] - metrics["balance_gap"]
    assert metrics["balance_penalty"].abs() > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_lazy_penalty_counts_critic_steps() -> None:
    gan = variant(penalty_interval=3)
    found = ["penalty" in m for number in range(3) for m in step(gan, number, False)[:2]]
    assert found == [True, False, False, True, False, False]
    z, real = torch.randn(4, 4), torch.randn(4, 1, *SHAPE)
    loss, metrics = gan.critic_loss(real, z, None, rng=np.random.default_rng(0))
    torch.testing.assert_close(loss, -metrics["wasserstein"] + 30 * metrics["penalty"])


def test_phases_repeat_exactly() -> None:
    losses = [
        [phase.loss()[0].item() for phase in variant().phases(4, batches(False), Draws(3))]
        for _ in range(2)
    ]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3


def test_sample_by_another_module() -> None:
    gan, other = variant(seed=0), variant(seed=1)
    found = gan.sample(2, rng=np.random.default_rng(0), module=other.modules["generator"])
    assert torch.equal(found, other.sample(2, rng=np.random.default_rng(0)))


def seen_by_the_critic(gan: AdversarialGAN) -> list[Tensor]:
    """Filled with what the critic is given, call after call."""
    seen: list[Tensor] = []
    gan.modules["critic"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


AUGMENTED: dict[str, Any] = {"augment": ("flip", "shift", "intensity"), "generator_norm": "none"}


@pytest.mark.parametrize("penalty", ["wgan-gp", "r1", "r2"])
def test_the_critic_sees_real_and_generated_volumes_augmented_alike(penalty: str) -> None:
    """Also where the penalty is taken: at them (r1, r2) or between them."""
    gan = variant(**AUGMENTED, objective="non-saturating", penalty=penalty)
    real, z, seed = torch.rand(6, 1, *SHAPE), torch.randn(6, 4), 5
    plain = torch.cat([real, gan.modules["generator"](z)]).detach()
    seen = seen_by_the_critic(gan)
    gan.critic_loss(real, z, None, rng=np.random.default_rng(seed), share=torch.rand(6))
    wanted = gan.augment(plain, np.random.default_rng(seed))
    # Every volume of either half is changed, and with it what the score depends on.
    assert ((wanted - plain).abs().flatten(1).amax(1) > 1e-3).all()
    both, at = seen
    torch.testing.assert_close(both, wanted)
    augmented = dict(zip(("r1", "r2"), wanted.chunk(2), strict=True))
    if penalty in augmented:
        torch.testing.assert_close(at, augmented[penalty])
        return
    share = (at - wanted[6:]) / (wanted[:6] - wanted[6:])
    middle = share.flatten(1).median(1).values.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(at, torch.lerp(wanted[6:], wanted[:6], middle), rtol=0, atol=1e-4)


def test_the_generator_is_judged_by_augmented_volumes() -> None:
    """Else it would have to match augmented real volumes, and would learn to augment."""
    gan, z = variant(**AUGMENTED), torch.randn(6, 4)
    plain = gan.modules["generator"](z).detach()
    seen = seen_by_the_critic(gan)
    loss, _ = gan.generator_loss(z, None, rng=np.random.default_rng(5))
    wanted = gan.augment(plain, np.random.default_rng(5))
    assert ((wanted - plain).abs().flatten(1).amax(1) > 1e-3).all()
    torch.testing.assert_close(seen[0], wanted)
    gradients = torch.autograd.grad(loss, list(gan.modules["generator"].parameters()))
    assert all(g.abs().max() > 0 for g in gradients)


def test_each_phase_draws_an_augmentation_of_its_own() -> None:
    gan = variant(**AUGMENTED, penalty="none", objective="minimax")
    drawn: list[float] = []
    augment = gan.augment

    def watched(x: Tensor, moves: Moves) -> Tensor:
        contrast = moves[3]
        assert len(contrast) == len(x)
        drawn.extend(contrast[:1].flatten().tolist())
        return augment(x, moves)

    watched.draw, watched.names = augment.draw, augment.names  # type: ignore[attr-defined]
    gan.augment = watched  # type: ignore[assignment]
    for number in range(2):
        for phase in gan.phases(number, batches(False), Draws(0)):
            phase.loss()
    # Two critic phases and one of the generator, twice.
    assert len(drawn) == len(set(drawn)) == 6


def test_samples_are_float32_whatever_training_rounds_to() -> None:
    gan, seen = variant(), []
    generator = gan.modules["generator"]
    generator.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    with tensor_float32(True):
        gan.sample(1)
        assert torch.backends.cudnn.allow_tf32
    assert seen == [False]


def test_sample_clips_the_headroom_of_the_generator() -> None:
    gan = variant()
    with torch.no_grad():
        for parameter in gan.modules["generator"].last.parameters():
            parameter *= 1e3
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 4), dtype=np.float32))
    plain = gan.modules["generator"](z).detach()
    assert plain.min() < -1.03 and plain.max() > 1.03
    found = gan.sample(4, rng=np.random.default_rng(0))
    assert (found.min().item(), found.max().item()) == (-1.0, 1.0)
    inside = plain.abs() <= 1.0
    assert inside.any() and torch.equal(found[inside], plain[inside])
    assert torch.equal(found[~inside], plain[~inside].sign())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "hing"}, "did you mean 'hinge'"),
        ({"penalty": "gp"}, "penalty 'gp' is unknown"),
        ({"penalty_weight": 0.0}, "penalty_weight"),
        ({"penalty": "none"}, "choose a penalty, spectral_norm or weight_clip"),
        ({"weight_clip": 0.01}, "set penalty 'none' to clip, or weight_clip 0 to penalise"),
        ({"weight_clip": 0.01, "penalty": "r1", "objective": "minimax"}, "and penalty 'r1'"),
        (
            {"weight_clip": 0.01, "penalty": "none", "spectral_norm": True},
            "set spectral_norm false, or weight_clip 0",
        ),
        ({"weight_clip": -0.01, "penalty": "none"}, "weight_clip must be >= 0"),
        ({"weight_clip": math.inf, "penalty": "none"}, "weight_clip must be >= 0"),
        ({"critic_steps": 0}, "critic_steps"),
        ({"augment": ("rotate",)}, "augment 'rotate' is unknown"),
        ({"classes": ("a", "b")}, "prior"),
        ({"shape": (250, 250, 250)}, "250x250x250"),
    ],
)
def test_rejects_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        variant(**settings)


def test_rejects_groups_that_would_mix_real_and_generated() -> None:
    """Twice 6 volumes are three groups of 4, of which one would be of both kinds."""
    gan = variant(minibatch_stddev=4)
    with pytest.raises(ConfigError, match="minibatch_stddev 4 does not divide a batch of 6"):
        next(iter(gan.phases(0, batches(False), Draws(0)))).loss()


def test_spectral_norm_bounds_a_wasserstein_critic() -> None:
    assert variant(penalty="none", spectral_norm=True).penalty == Penalty("none")


def test_initial_weights_are_a_function_of_the_seed() -> None:
    state = torch.random.get_rng_state()
    first, again, other = variant(seed=3), variant(seed=3), variant(seed=4)
    assert torch.equal(state, torch.random.get_rng_state())
    for name, module in first.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, again.modules[name].state_dict()[key])
    assert not torch.equal(first.modules["critic"].head.weight, other.modules["critic"].head.weight)


def test_pictures_have_a_line_per_class_and_repeat() -> None:
    plain, conditional = variant(), variant(**CONDITIONAL)
    first, again = (plain.pictures(batches(False), Draws(0)) for _ in range(2))
    assert first.volumes.shape == (8, 1, *SHAPE) and first.columns == 4
    assert torch.equal(first.volumes, again.volumes)
    shown = conditional.pictures(batches(True), Draws(0))
    assert shown.volumes.shape == (8, 1, *SHAPE)
    expected = conditional.sample(8, [0] * 4 + [1] * 4, Draws(0).numpy(0, "samples"))
    assert torch.equal(shown.volumes, expected)
