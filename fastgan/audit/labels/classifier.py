"""A classifier of the user's own classes, trained on the training split, is the instrument.

Judgements about labels need somebody who reads labels and had no part in the generator. Several
small networks are trained, each without one part of the subjects, so that every training subject
has a network that never saw it; held-out and generated volumes are read by all of them. They are
taught that a shift by a few voxels changes nothing, since networks that only ever saw centred
bodies take every other place for another class; and nothing else of the kind, since one that was
taught a transform cannot find that it changes labels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastgan.arrays import Floats, Integers, Texts
from fastgan.audit.evidence import LEAST_SUBJECTS, Cohort
from fastgan.audit.labels.alterations import shifted
from fastgan.errors import AuditError, NotAsked
from fastgan.models import Classifier, build_classifier

__all__ = ["PROTOCOL", "Ensemble", "train_ensemble"]

PROTOCOL = "classifier-1"
"""Changes whenever numbers of this classifier stop being comparable with earlier ones."""


MEMBERS = 3
STEPS = 300
BATCH = 16
RATE, DECAY = 1e-3, 0.05
SHIFTED = 0.5  # share of what is trained on; all of it costs more accuracy than it brings
CHUNK = 64  # volumes read at once


@dataclass(frozen=True)
class Ensemble:
    """Networks that each left out one part of the training subjects."""

    members: tuple[Classifier, ...]
    left_out: Mapping[str, int]
    """Training subject -> the member that never saw it."""
    temperature: float
    """Divides logits; fitted to what members say of the subjects they left out."""

    @property
    def digest(self) -> str:
        """First 12 hex digits of the sha256 of weights and temperature."""
        content = hashlib.sha256(repr(self.temperature).encode())
        for member in self.members:
            for name, weight in member.state_dict().items():
                content.update(name.encode())
                content.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()[:12]

    @property
    def provenance(self) -> str:
        """Protocol version and weights, for the methods of every number that rests on them."""
        return f"{PROTOCOL}, weights {self.digest}"

    def probabilities(self, values: Floats, subjects: Texts | None = None) -> Floats:
        """Calibrated probabilities of the classes, as if all were equally frequent.

        Args:
            values: [N, D, H, W] in [-1, 1].
            subjects: [N]; volumes of a training subject are read by the member that never saw it,
                all others by the mean of the members' logits. None: all by the mean.

        Returns:
            [N, K] float64.
        """
        reader = np.full(len(values), -1)  # -1: all members read it
        if subjects is not None:
            reader = np.array([self.left_out.get(str(s), -1) for s in subjects], dtype=np.int64)
        logits = np.zeros((len(values), self.members[0].num_classes))
        for number, member in enumerate(self.members):
            alone, shared = reader == number, reader == -1
            logits[alone] = _read(member, values[alone])
            logits[shared] += _read(member, values[shared]) / len(self.members)
        return _softmax(logits / self.temperature)

    def disagreement(self, values: Floats) -> float:
        """Share of volumes and pairs of members that are classified differently."""
        said = np.stack([_read(member, values).argmax(1) for member in self.members])
        a, b = np.triu_indices(len(said), 1)
        return float((said[a] != said[b]).mean())

    def features(self, values: Floats) -> Floats:
        """[N, members * F] float32: what the members' logits are linear functions of."""
        with torch.no_grad():
            found = [
                np.concatenate([m.features(part).numpy() for part in _parts(values)])
                for m in self.members
            ]
        return np.concatenate(found, axis=1)


def train_ensemble(
    cohort: Cohort, num_classes: int, rng: np.random.Generator, *, steps: int | None = None
) -> Ensemble:
    """Train the members on parts of `cohort` and calibrate them on what each left out.

    Args:
        cohort: labelled training volumes.
        num_classes: K.
        rng: every random number, initial weights included.
        steps: of each member; None for the protocol's.

    Raises:
        AuditError: no labels, one class, or a class of fewer than 10 subjects.

    Deterministic: yes, on one kind of machine.
    Cost: about 10 s a member for volumes of 32^3 on one core.
    """
    if cohort.labels is None or num_classes < 2:
        raise NotAsked("the data have no classes, so there is no label to judge")
    labels = np.asarray(cohort.labels, dtype=np.int64)
    parts = _folds(labels, cohort.subjects, num_classes, rng)
    members = []
    logits = np.zeros((len(cohort), num_classes))
    for number in range(MEMBERS):
        seen = parts != number
        member = _train(cohort.values[seen], labels[seen], num_classes, rng, steps or STEPS)
        logits[~seen] = _read(member, cohort.values[~seen])
        members.append(member)
    left_out = dict(zip(map(str, cohort.subjects), parts.tolist(), strict=True))
    return Ensemble(tuple(members), left_out, _temperature(logits, labels))


def _folds(
    labels: Integers, subjects: Texts, num_classes: int, rng: np.random.Generator
) -> Integers:
    """[N] part of each volume; whole subjects, each class in every part."""
    names, who = np.unique(subjects, return_inverse=True)
    first = np.zeros(len(names), np.int64)
    for c in range(num_classes):  # by the rarest of a subject's classes
        count = len(np.unique(who[labels == c]))
        if count < LEAST_SUBJECTS:
            raise AuditError(
                f"labels: class {c} has {count} training subjects, at least {LEAST_SUBJECTS} of "
                "every class are needed"
            )
    for c in np.argsort(-np.bincount(labels, minlength=num_classes), kind="stable"):
        first[who[labels == c]] = c
    order = rng.permutation(len(names))
    order = order[np.argsort(first[order], kind="stable")]
    part = np.empty(len(names), np.int64)
    part[order] = np.arange(len(names)) % MEMBERS
    return part[who]


def _train(
    values: Floats, labels: Integers, num_classes: int, rng: np.random.Generator, steps: int
) -> Classifier:
    """One member: AdamW on shifted volumes, classes equally often, the rate a cosine to zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        model = build_classifier(shape=values.shape[1:], num_classes=num_classes)
    by_class = [np.nonzero(labels == c)[0] for c in range(num_classes)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.5 * RATE * (1.0 + math.cos(math.pi * step / steps))
        asked = (rng.permutation(num_classes)[np.arange(BATCH) % num_classes]).tolist()
        chosen = np.array([rng.choice(by_class[c]) for c in asked])
        moved = rng.random(BATCH) < SHIFTED
        parts = [
            shifted(values[i], rng) if m else values[i] for i, m in zip(chosen, moved, strict=True)
        ]
        batch = torch.from_numpy(np.stack(parts))[:, None]
        loss: Tensor = functional.cross_entropy(
            model(batch.float()), torch.from_numpy(labels[chosen])
        )
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return model.eval()


def _parts(values: Floats) -> list[Tensor]:
    return [
        torch.from_numpy(np.ascontiguousarray(values[i : i + CHUNK], dtype=np.float32))[:, None]
        for i in range(0, len(values), CHUNK)
    ]


def _read(member: Classifier, values: Floats) -> Floats:
    """[N, K] logits, float64."""
    with torch.no_grad():
        said = [member(part).numpy() for part in _parts(values)]
    return np.concatenate([*said, np.zeros((0, member.num_classes))]).astype(np.float64)


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return share


def _temperature(logits: Floats, labels: Integers) -> float:
    """The temperature of least cross-entropy, classes weighted equally.

    In the inverse temperature the loss is convex, so its slope changes sign once: bisection.
    Source: Guo et al. 2017, "On calibration of modern neural networks".
    """
    weight = 1.0 / np.bincount(labels)[labels]
    own = logits[np.arange(len(labels)), labels]
    low, high = -5.0, 5.0  # log of the inverse temperature
    for _ in range(50):
        middle = 0.5 * (low + high)
        expected = (_softmax(logits * math.exp(middle)) * logits).sum(1)
        rising = float((weight * (expected - own)).sum()) > 0.0
        low, high = (low, middle) if rising else (middle, high)
    return math.exp(-low)
