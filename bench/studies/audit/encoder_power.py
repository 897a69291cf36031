"""Does a 3D encoder find planted copies that the searches of memorization miss?

    python -m bench.studies.audit.encoder_power nodules     # or lung; some minutes of one core

The encoder is taught by training patients alone, without labels: two random views of a volume
(mirrored, moved, turned, zoomed, of other contrast, noisy) have to be more alike than views of
other patients' volumes. Its features are then one more search: r = d1 / mean(d2, ..., d10) of
distances between unit vectors. Copies are planted as the audit plants them, and each arm must find
one at the level that the audit asks for, with 500 generated volumes. What chance does is known to
the encoder from held-out patients alone: training volumes lie farther apart in what was taught to
tell them apart. Writes
bench/results/audit/encoder-power-nodules.json or -lung.json.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.studies.truth.worlds import Setting, World
from fastgan import config
from fastgan.audit.controls import power_level
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.likeness.outliers import CopyTest, isolation
from fastgan.audit.likeness.searches import Near
from fastgan.audit.memorization.planted_copies import (
    BENT,
    DEFORMED,
    OF_MASKS,
    SAME_POSE,
    changed,
    noisy,
    transformed,
)
from fastgan.audit.memorization.power import LEVELS
from fastgan.audit.memorization.search import Searched, searched
from fastgan.audit.statistics import clopper_pearson
from fastgan.models.classifier import Classifier, build_classifier
from fastgan.ops import nearest
from fastgan.runs.evidence import evidence_of_config

PROTOCOL = "encoder-1"
STEPS, BATCH, RATE, TEMPERATURE = 600, 64, 2e-3, 0.1
PLANTED, GENERATED, NEIGHBOURS, SEED = 300, 500, 10, 7
PEOPLE, UNSEEN, SIDE = 400, 200, 16
ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "bench" / "results" / "audit"

Floats = np.ndarray
Row = dict[str, Any]


@dataclass(frozen=True)
class Views:
    """Random views of volumes."""

    mask: bool
    random: torch.Generator

    def __call__(self, batch: Tensor) -> Tensor:
        """[B, 1, D, H, W] -> the same, each its own."""
        count = len(batch)
        matrix = torch.zeros(count, 3, 4)
        matrix[:, :, :3] = self._turns(count) * torch.exp(self._uniform(count, 1, 1) * 0.2)
        matrix[:, :, :3] *= 1 - 2 * torch.randint(2, (count, 1, 3), generator=self.random)
        matrix[:, :, 3] = 0.25 * self._uniform(count, 3)
        grid = F.affine_grid(matrix, list(batch.shape), align_corners=False)
        out = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
        if not self.mask:
            share = ((out + 1) / 2).clamp(1e-3, 1) ** torch.exp(
                0.5 * self._uniform(count, 1, 1, 1, 1)
            )
            out = 2 * share * torch.exp(0.4 * self._uniform(count, 1, 1, 1, 1)) - 1
            out = torch.where(self._uniform(count, 1, 1, 1, 1) < -0.6, -out, out)
        noise = torch.randn(out.shape, generator=self.random)
        return out + 0.1 * self._uniform(count, 1, 1, 1, 1).abs() * noise

    def _uniform(self, *shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=self.random) - 1

    def _turns(self, count: int) -> Tensor:
        """[N, 3, 3] rotations by up to 20 degrees about random axes."""
        axis = F.normalize(torch.randn(count, 3, generator=self.random), dim=1)
        x, y, z = (axis * np.radians(20.0) * self._uniform(count, 1)).unbind(1)
        zero = torch.zeros(count)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(count, 3, 3)
        return torch.linalg.matrix_exp(skew)


def taught(volumes: Floats, subject: np.ndarray, *, mask: bool, steps: int) -> Classifier:
    """An encoder of volumes [N, D, H, W] of subjects [N]: its `features`."""
    torch.manual_seed(SEED)
    random = torch.Generator().manual_seed(SEED)
    net = build_classifier(
        shape=volumes.shape[1:], num_classes=2, classifier_channels=(16, 32, 64), num_features=128
    )
    head = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))
    rates = torch.optim.AdamW([*net.parameters(), *head.parameters()], RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(rates, steps)
    batch, who = torch.from_numpy(volumes.astype(np.float32))[:, None], torch.from_numpy(subject)
    view = Views(mask, random)
    for step in range(steps):
        at = torch.randperm(len(batch), generator=random)[:BATCH]
        views = torch.cat([view(batch[at]), view(batch[at])])
        z = F.normalize(head(net.features(views)), dim=1)
        loss = _contrast(z, who[at])
        rates.zero_grad()
        loss.backward()
        rates.step()
        schedule.step()
        if step % 100 == 0:
            print(f"  step {step}: {loss.item():.3f}", flush=True)
    return net.eval()


def _contrast(z: Tensor, who: Tensor) -> Tensor:
    """Cross entropy of telling the other view [2B] from views of other subjects."""
    count = len(who)
    logits = z @ z.T / TEMPERATURE
    same = (who[:, None] == who[None]).repeat(2, 2)
    other = torch.arange(2 * count).roll(count)
    own = logits.gather(1, other[:, None])
    against = logits.masked_fill(same, -torch.inf)
    return F.cross_entropy(torch.cat([own, against], 1), torch.zeros(2 * count, dtype=torch.long))


@torch.no_grad()
def encoded(net: Classifier, volumes: Floats) -> Floats:
    """Unit vectors [N, F]."""
    parts = torch.from_numpy(volumes.astype(np.float32))[:, None].split(100)
    return torch.cat([F.normalize(net.features(part), dim=1) for part in parts]).double().numpy()


def isolated(net: Classifier, targets: Floats, volumes: Floats) -> Floats:
    """[N] how isolated the nearest target is."""
    query = torch.from_numpy(encoded(net, volumes))
    return isolation(nearest(query, torch.from_numpy(targets), NEIGHBOURS)[0].numpy())


def copies(data: Searched, *, mask: bool) -> Iterator[tuple[str, Floats]]:
    """Kind -> planted copies of random training volumes."""
    rng = np.random.default_rng(SEED)
    kinds = [f"noise {level:g}" for level in LEVELS]
    kinds += [*(OF_MASKS if mask else SAME_POSE), "shift", *DEFORMED, BENT]
    for kind in kinds:
        volumes = data.training[rng.integers(len(data.training), size=PLANTED)]
        others = data.holdout[rng.integers(len(data.holdout), size=PLANTED)]
        level = LEVELS[0]
        if kind.startswith("noise"):
            level, made = float(kind.split()[1]), volumes
        elif kind == "shift":
            made = transformed(kind, volumes, rng, data.spacing)
        else:
            made = changed(kind, volumes, others, rng)
        yield kind, noisy(made, level * data.typical, rng)


def compared(name: str, evidence: Evidence, steps: int) -> list[Row]:
    """Shares of planted copies that each arm finds, by kind."""
    mask = evidence.modality == "mask"
    data = searched(evidence, Options(seed=SEED))
    began = time.perf_counter()
    net = taught(data.training, data.training_subject, mask=mask, steps=steps)
    seconds = time.perf_counter() - began
    digest = hashlib.sha256(b"".join(p.numpy().tobytes() for p in net.state_dict().values()))
    targets = encoded(net, data.training)
    alone = CopyTest.fit([isolated(net, targets, data.holdout)])
    first, second = (
        CopyTest.fit(data.null(of)) for of in (Near.isolations, Near.isolations_deformed)
    )
    level = power_level(0.05) / GENERATED
    rows = []
    for kind, made in copies(data, mask=mask):
        near = data.in_training.search(made)
        p = {
            "as it lies": first.p(near.isolations()),
            "turned, zoomed, halves": second.p(near.isolations_deformed()),
            "encoder": alone.p([isolated(net, targets, made)]),
        }
        for arm, values in p.items():
            hits = int((values <= level).sum())
            low, high = clopper_pearson(hits, PLANTED)
            rows.append(
                {"data": name, "copies": kind, "arm": arm, "found": hits, "of": PLANTED,
                 "interval": [round(low, 3), round(high, 3)], "seconds to teach": round(seconds),
                 "protocol": PROTOCOL, "hash": digest.hexdigest()[:12]}
            )  # fmt: skip
        print(name, kind, [(r["arm"], r["found"]) for r in rows[-3:]], flush=True)
    return rows


def nodules() -> Evidence:
    """The bundled masks; held-out ones stand for generated volumes, which no arm looks at."""
    chosen = config.load(ROOT / "examples" / "nodules_conditional.yaml")
    return _with_made(evidence_of_config(chosen, None))


def lung() -> Evidence:
    """Textures with lesions, one volume a patient."""
    world = World(Setting("lung", SIDE), SEED)
    people = world.fresh(PEOPLE + UNSEEN, "encoder")
    values = world.values(people.raw)
    names = np.array([f"p{i}" for i in range(len(values))])
    sides = (slice(0, PEOPLE), "training"), (slice(PEOPLE, None), "held-out")
    cohorts = [Cohort(name, values[at], names[at]) for at, name in sides]
    return _with_made(Evidence(*cohorts, None, (1.0, 1.0, 1.0), modality="ct"))


def _with_made(evidence: Evidence) -> Evidence:
    held = evidence.holdout.values[:20]
    made = Cohort("generated", held, np.array([f"g{i}" for i in range(len(held))]))
    return Evidence(
        evidence.training, evidence.holdout, made, evidence.spacing, modality=evidence.modality
    )


DATA = {"nodules": nodules, "lung": lung}


def main() -> None:
    """One data set."""
    torch.set_num_threads(1)
    (name,) = sys.argv[1:]
    rows = compared(name, DATA[name](), STEPS)
    text = json.dumps({"steps": STEPS, "planted": PLANTED, "rows": rows}, indent=1)
    (RESULTS / f"encoder-power-{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
