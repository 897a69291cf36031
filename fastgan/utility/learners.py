"""The classifiers whose gain is measured, trained in equally many steps whatever they are fed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastgan.arrays import Floats
from fastgan.errors import NumericsError
from fastgan.models import Classifier, build_classifier
from fastgan.utility.arms import Diet
from fastgan.utility.settings import Learner

__all__ = ["Reader", "learn"]

Reader = Callable[[Floats], Floats]
"""[N, C, D, H, W] volumes to [N] logits of the positive class, float64."""
CHUNK = 64  # volumes read at once
GRID = 4  # blocks along each axis of the coarse grid
RIDGE = 1e-2  # of the mean square of a coarse feature


def learn(diet: Diet, learner: Learner, prior: float, rng: np.random.Generator) -> Reader:
    """Train a classifier on what an arm draws.

    Args:
        diet: the arm's.
        learner: which classifier, how long.
        prior: share of positive volumes among the patients it will be asked about; logits are
            moved from the share it was trained at to this one.
        rng: every random number, initial weights included.

    Raises:
        NumericsError: the loss is no number: the arm diverged.

    Deterministic: on one kind of machine and with one number of threads.
    Cost: about 8 s for 300 steps at 32^3 on one core; with augmentation twice that.
    """
    shift = _logit(prior) - _logit(diet.drawn_prior)
    read = _train_cnn(diet, learner, rng) if learner.kind == "cnn" else _fit(diet, learner, rng)
    return lambda values: read(values) + shift


def _logit(share: float) -> float:
    share = min(max(share, 1e-3), 1.0 - 1e-3)
    return math.log(share / (1.0 - share))


def _train_cnn(diet: Diet, learner: Learner, rng: np.random.Generator) -> Reader:
    """AdamW, the rate a cosine to zero, as the audit's instrument."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        model = build_classifier(
            shape=diet.values.shape[2:], num_classes=2, channels=diet.values.shape[1]
        )
    rate = learner.learning_rate
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=diet.weight_decay)
    batches = diet.batches(learner.steps, learner.batch_size, rng)
    for step, (volumes, classes) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = 0.5 * rate * (1.0 + math.cos(math.pi * step / learner.steps))
        loss: Tensor = functional.cross_entropy(model(volumes.float()), classes)
        if not math.isfinite(loss.item()):
            raise NumericsError(f"loss {loss.item()} in step {step} of {learner.steps}")
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    model.eval()
    return lambda values: _read(model, values)


def _read(model: Classifier, values: Floats) -> Floats:
    parts = []
    with torch.no_grad():
        for begin in range(0, len(values), CHUNK):
            part = np.ascontiguousarray(values[begin : begin + CHUNK], np.float32)
            logits = model(torch.from_numpy(part)).numpy().astype(np.float64)
            parts.append(logits[:, 1] - logits[:, 0])
    return np.concatenate([*parts, np.zeros(0)])


def _fit(diet: Diet, learner: Learner, rng: np.random.Generator) -> Reader:
    """Ridge regression of the class on block means, over the volumes that the steps draw."""
    if diet.classic:
        drawn = [
            (coarse(volumes.numpy()), classes.numpy())
            for volumes, classes in diet.batches(learner.steps, learner.batch_size, rng)
        ]
        features = np.concatenate([one for one, _ in drawn])
        target = np.concatenate([one for _, one in drawn])
        weight = np.ones(len(target))
    else:
        # Each volume as often as it is drawn, without making its features anew.
        order = diet.order(learner.steps * learner.batch_size, rng)
        weight = np.bincount(order, minlength=len(diet.positive)).astype(np.float64)
        features, target = coarse(diet.values), diet.positive.astype(np.float64)
    if not np.isfinite(features).all():
        raise NumericsError("a volume drawn is not finite")
    total = weight.sum()
    centre = weight @ features / total
    x = features - centre
    square = (x * weight[:, None]).T @ x / total
    ridge = diet.weight_decay / 0.05 * RIDGE * np.trace(square) / len(square) + 1e-12
    mean = weight @ target / total
    slope = np.linalg.solve(
        square + ridge * np.eye(len(square)), (x * weight[:, None]).T @ (target - mean) / total
    )
    # A linear prediction of a class in {0, 1} as a logit near its middle.
    return lambda values: 4.0 * ((coarse(values) - centre) @ slope + mean - 0.5)


def coarse(values: Floats) -> Floats:
    """[N, C, D, H, W] -> [N, C * 64] float64 means of 4 x 4 x 4 blocks, edges cut off."""
    blocks = [max(size // GRID, 1) for size in values.shape[2:]]
    grid = [min(GRID, size) for size in values.shape[2:]]
    window = tuple(slice(0, g * b) for g, b in zip(grid, blocks, strict=True))
    cut = values[(slice(None), slice(None), *window)]
    shape = [s for pair in zip(grid, blocks, strict=True) for s in pair]
    split = cut.reshape(*values.shape[:2], *shape)
    means: Floats = split.mean(axis=(3, 5, 7), dtype=np.float64)
    return means.reshape(len(values), -1)
