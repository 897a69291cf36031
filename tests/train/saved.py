"""A small checkpoint, saved."""

from __future__ import annotations

import torch

from fastgan.train import checkpoint

IDENTITY = {"settings": {"seed": 0}, "data": {"fingerprint": "d" * 64}}


def parts(value=1.0):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 3, 3, 3, 3, generator=generator) * value
    return {
        "generator": {
            "w": weight.to(memory_format=torch.channels_last_3d),
            "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        },
        "critic": {"w": torch.arange(6.0).reshape(2, 3).T, "count": torch.tensor(3)},
        "optimiser.critic": {"w.step": torch.tensor(4.0), "w.exp_avg": torch.zeros(0)},
    }


def save(folder, step, value=1.0):
    return checkpoint.save(folder, step, parts(value), {"step": step}, IDENTITY)


def tree(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
