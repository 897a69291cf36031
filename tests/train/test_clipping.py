"""Weight clipping: the set the critic's weights stay in, through the loop, skips and resuming."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from fastgan.errors import NumericsError
from fastgan.gans import AdversarialGAN, AdversarialSettings, build_variant
from fastgan.gans.clipping import clip_weights
from fastgan.train import checkpoint, fit
from fastgan.train.optim import PhaseOptimiser

CLIP = 0.03


def clipped(**settings: Any) -> AdversarialGAN:
    game = AdversarialSettings(
        latent_dim=3,
        generator_channels=(4,),
        critic_channels=(4,),
        critic_steps=2,
        penalty="none",
        weight_clip=CLIP,
    )
    gan = build_variant(game, shape=(4, 4, 4), **settings)
    assert isinstance(gan, AdversarialGAN)
    return gan


def largest(gan: AdversarialGAN, module: str) -> float:
    return max(p.detach().abs().max().item() for p in gan.modules[module].parameters())


def bound() -> float:
    return torch.tensor(CLIP).item()


def test_clips_every_parameter_and_leaves_the_rest() -> None:
    layer = torch.nn.Linear(50, 3)
    before = copy.deepcopy(layer)
    clip_weights(layer, 0.1)
    for found, given in zip(layer.parameters(), before.parameters(), strict=True):
        assert torch.equal(found, given.detach().clamp(-0.1, 0.1))
    again = copy.deepcopy(layer)
    clip_weights(again, 0.1)
    for found, given in zip(again.parameters(), layer.parameters(), strict=True):
        assert torch.equal(found, given)


def test_clipped_from_the_start_and_the_critic_alone() -> None:
    gan = clipped(classes=("a", "b"), prior=(1, 1))
    assert largest(gan, "critic") == bound()
    assert largest(gan, "generator") > CLIP
    critic_phase, _, generator_phase = gan.phases(0, lambda _: None, None)  # type: ignore[arg-type]
    assert critic_phase.after is not None and generator_phase.after is None


def test_the_loop_clips_after_every_critic_update(tiny, tmp_path: Path, quiet) -> None:
    gan, seen = clipped(), []
    phases = gan.phases

    def watched(*arguments):
        for phase in phases(*arguments):
            yield phase
            seen.append((phase.name, largest(gan, "critic")))

    gan.phases = watched
    config = tiny.tiny_config(steps=3, lr_critic=0.1)
    fit(gan, tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert [name for name, _ in seen] == ["critic", "critic", "generator"] * 3
    assert {size for _, size in seen} == {bound()}


def test_a_skipped_update_changes_no_weight(tiny, tmp_path: Path, quiet) -> None:
    gan = clipped()
    before = {n: t.clone() for n, t in gan.modules["critic"].state_dict().items()}
    data = tiny.TinyDataset()
    data.volumes[:] = float("nan")
    config = tiny.tiny_config(steps=2, non_finite="skip")
    run = fit(gan, data, config, out=tmp_path, progress=quiet)
    assert checkpoint.newest(run.path).counters["skipped"]["critic"] == 4
    for name, tensor in gan.modules["critic"].state_dict().items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(NumericsError, match="phase critic"):
        fit(clipped(), data, tiny.tiny_config(), out=tmp_path, progress=quiet)


def test_adam_with_beta1_zero_is_rmsprop() -> None:
    """Up to the bias correction, which a factor of the learning rate takes out here."""
    alpha, lr = 0.99, 0.05
    start = torch.randn(6)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    adam = PhaseOptimiser({"w": ours}, lr, (0.0, alpha))
    rmsprop = torch.optim.RMSprop([theirs], lr, alpha=alpha, eps=1e-12)
    for step in range(1, 20):
        gradient = torch.randn(6)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        adam.scale_rate((1 - alpha**step) ** -0.5)
        adam.step(torch.zeros(()))
        rmsprop.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_loop_calls_after_once_a_phase_without_gradients(tiny, tmp_path: Path, quiet) -> None:
    seen = []

    class Projected(tiny.TinyVariant):
        def phases(self, step, next_batch, draws):
            for phase in super().phases(step, next_batch, draws):
                start = self.modules[phase.name].state_dict()
                start = {name: tensor.clone() for name, tensor in start.items()}

                def after(phase=phase, start=start):
                    now = self.modules[phase.name].state_dict()
                    moved = any(not torch.equal(now[name], start[name]) for name in start)
                    seen.append((phase.name, moved, torch.is_grad_enabled()))

                yield tiny.Phase(phase.name, phase.updates, phase.loss, after)

    config = tiny.tiny_config(steps=2)
    fit(Projected(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert seen == [(name, True, False) for name in ("critic", "critic", "generator")] * 2
