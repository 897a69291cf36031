"""How much of a lesion's size is in a picture at all? A network is shown the true sizes.

    python -m bench.studies.audit.lesion_reader     # about 15 minutes of one core

Of each family of bench.studies.truth 6,000 people are drawn, one scan each at 16^3. A small network
learns the logarithm of the size from them; on 1,000 further people of each class its answers are
held against the truth. Nothing that reads size without being told can be expected to do better by
much, so this bounds what quality.kinds can see of sizes in these pictures. Writes
bench/results/audit/lesion-reader.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench.studies.truth.laws import FAMILIES
from bench.studies.truth.worlds import CLASSES, Setting, World

TRAINING, UNSEEN, EPOCHS, BATCH, SEED = 6000, 2000, 10, 64, 11
RESULT = Path(__file__).parents[2] / "results" / "audit" / "lesion-reader.json"

Row = dict[str, Any]


def network() -> nn.Module:
    """16^3 volumes -> one number."""
    layers: list[nn.Module] = []
    for narrow, wide, stride in ((1, 16, 1), (16, 32, 2), (32, 48, 1), (48, 64, 2)):
        layers += [nn.Conv3d(narrow, wide, 3, stride, padding=1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(64 * 4**3, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1)]
    return nn.Sequential(*layers)


def read(family: str) -> list[Row]:
    """Rank correlation of what the network answers with the truth, by class."""
    torch.manual_seed(SEED)
    world = World(Setting(family, 16), SEED)
    taught, unseen = world.fresh(TRAINING, "taught"), world.fresh(UNSEEN, "axes")
    volumes, others = (torch.from_numpy(world.values(p.raw))[:, None] for p in (taught, unseen))
    size = torch.from_numpy(np.log(taught.burden)).float()
    size = (size - size.mean()) / size.std()
    net = network()
    rates = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(rates, EPOCHS)
    for _ in range(EPOCHS):
        for at in torch.randperm(TRAINING).split(BATCH):
            mirrored = [axis for axis in (2, 3, 4) if torch.rand(()) < 0.5]
            loss = F.mse_loss(net(volumes[at].flip(mirrored))[:, 0], size[at])
            rates.zero_grad()
            loss.backward()
            rates.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        answers = torch.cat([net(some)[:, 0] for some in others.split(200)]).numpy()
    rows = []
    for kind, name in enumerate(CLASSES):
        at = np.flatnonzero(unseen.labels == kind)
        ranks = [np.argsort(np.argsort(v[at])) for v in (answers, unseen.burden)]
        correlation = round(float(np.corrcoef(*ranks)[0, 1]), 2)
        rows.append(
            {"family": family, "class": name, "correlation": correlation, "people": len(at)}
        )
    return rows


def main() -> None:
    """Every family, written as it comes."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    for family in FAMILIES:
        rows += read(family)
        RESULT.write_text(json.dumps({"taught": TRAINING, "rows": rows}, indent=1) + "\n")
        print(rows[-2:], flush=True)


if __name__ == "__main__":
    main()
