"""An adversarial game of small networks, and its batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.gans import AdversarialGAN, AdversarialSettings, build_variant
from fastgan.gans.adversarial import AdversarialGAN as Exact
from fastgan.random import Draws

SHAPE = (8, 4, 6)


SMALL: dict[str, Any] = {
    "shape": SHAPE,
    "latent_dim": 4,
    "generator_channels": (8, 4),
    "critic_channels": (4, 8),
    "critic_steps": 2,
    "lr_generator": 1e-3,
    "lr_critic": 1e-3,
}


CONDITIONAL: dict[str, Any] = {"classes": ("benign", "malignant"), "prior": (0.9, 0.1)}


def variant(**settings: Any) -> AdversarialGAN:
    own = {field.name for field in fields(AdversarialSettings)}
    given = SMALL | settings
    game = AdversarialSettings(**{k: v for k, v in given.items() if k in own})
    built = build_variant(game, **{k: v for k, v in given.items() if k not in own})
    assert isinstance(built, Exact)
    return built


def batches(labelled: bool, batch: int = 6) -> Callable[[str], SimpleNamespace]:
    """As the loop gives them: a new real batch for each purpose."""

    def next_batch(purpose: str) -> SimpleNamespace:
        rng = Draws(7).numpy(0, purpose)
        x = torch.from_numpy(rng.standard_normal((batch, 1, *SHAPE), dtype=np.float32)).tanh()
        labels = torch.from_numpy((rng.random(batch) < 0.5).astype(np.int64))
        return SimpleNamespace(volumes=x, labels=labels if labelled else None)

    return next_batch


def step(gan: AdversarialGAN, number: int, labelled: bool) -> list[dict[str, Tensor]]:
    """What the loop does, with plain Adam; returns the metrics of each phase."""
    found = []
    for phase in gan.phases(number, batches(labelled), Draws(0)):
        for name, module in gan.modules.items():
            module.requires_grad_(name in phase.updates)
        parameters = [p for n in phase.updates for p in gan.modules[n].parameters()]
        settings = gan.optimisers[phase.name]
        adam = torch.optim.Adam(parameters, settings.lr, (settings.beta1, settings.beta2))
        before = {n: [p.clone() for p in m.parameters()] for n, m in gan.modules.items()}
        loss, metrics = phase.loss()
        loss.backward()
        assert loss.isfinite() and loss.dim() == 0
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
        adam.step()
        if phase.after is not None:
            phase.after()
        for name, module in gan.modules.items():
            after = list(module.parameters())
            changed = [not torch.equal(a, b) for a, b in zip(before[name], after, strict=True)]
            if name in phase.updates:
                assert sum(changed) >= len(changed) // 2
            else:
                assert not any(changed)
        assert all(m.dim() == 0 and not m.requires_grad for m in metrics.values())
        found.append({"phase": phase.name, "loss": loss.detach(), **metrics})
    return found
