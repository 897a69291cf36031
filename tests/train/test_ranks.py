"""Several processes train what one does: 2 and 4 ranks over gloo on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.together import counted, results, steps_of, together

from fastgan.train.ranks import joined

KINDS = ("benign", "malignant")
GAMES: dict[str, dict[str, Any]] = {
    "wgan-gp": {"augment": ("flip", "shift", "intensity")},
    "minimax": {"objective": "minimax", "penalty": "none"},
    "non-saturating-r1-lazy": {
        "objective": "non-saturating",
        "penalty": "r1",
        "penalty_weight": 1.0,
        "penalty_interval": 3,
    },
    "hinge-spectral": {"objective": "hinge", "penalty": "none", "spectral_norm": True},
    "wgan-clip": {"objective": "wgan", "penalty": "none", "weight_clip": 0.01},
    "stddev": {"minibatch_stddev": 2, "critic_norm": "layer", "generator_norm": "group"},
    "cyclegan": {
        "translator_channels": (4, 8),
        "translator_blocks": 1,
        "patch_critic_channels": (4, 8),
        "pool_size": 5,
        "critic_noise": 0.1,
    },
}
CASES = [(name, ()) for name in GAMES] + [("wgan-gp", KINDS), ("stddev", KINDS)]
BOUND = {torch.float32: 1e-6, torch.float64: 1e-12}


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Of gradients, relative to the longer one."""
    scale = max(float(wanted.norm()), float(found.norm()), 1e-30)
    return float((found - wanted).norm()) / scale


@pytest.mark.parametrize("count", [2, 4])
def test_gradients_are_those_of_one_process(count: int, tmp_path: Path) -> None:
    def work(rank: int) -> Any:
        found = {}
        with joined() as ranks:
            ranks.connect(torch.device("cpu"))
            for case in CASES:
                name, classes = case
                for dtype in BOUND:
                    noted = steps_of(GAMES[name], classes=classes, dtype=dtype, ranks=ranks)
                    found[case, dtype] = noted
        return found

    every = results(together(count, work, tmp_path))
    for (name, classes), dtype in every[0]:
        wanted = steps_of(GAMES[name], classes=classes, dtype=dtype)
        for noted in (rank[(name, classes), dtype] for rank in every):
            assert [phase for phase, _, _ in noted] == [phase for phase, _, _ in wanted]
            whole = zip(noted, wanted, strict=True)
            for (phase, loss, gradients), (_, other, expected) in whole:
                assert loss == pytest.approx(other, rel=BOUND[dtype], abs=BOUND[dtype])
                worst = max(distance(gradients[key], expected[key]) for key in expected)
                print(name, classes, dtype, phase, worst)
                assert worst <= BOUND[dtype], (name, classes, phase)
                mine = {key: value.numpy().tobytes() for key, value in gradients.items()}
                first = every[0][(name, classes), dtype]
                assert mine  # identical on all ranks is compared below
        firsts = every[0][(name, classes), dtype]
        for rank in every[1:]:
            for (_, _, a), (_, _, b) in zip(firsts, rank[(name, classes), dtype], strict=True):
                assert all(torch.equal(a[key], b[key]) for key in a)
