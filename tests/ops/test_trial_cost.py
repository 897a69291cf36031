"""A trial at first use costs a user seconds: counted, as nothing here can be timed on a GPU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan.ops import implementation
from fastgan.ops.proof import certify, production
from fastgan.ops.proof.trial import SHAPES

CPU = torch.device("cpu")
# Of an H100, low: bytes a second of eager kernels, seconds that the host takes for one of them.
BANDWIDTH, LAUNCH = 1.5e12, 25e-6
# Seconds until a process has imported torch and has a CUDA context.
START = 4.0
GOAL = 10.0


class Counted(TorchDispatchMode):
    """Operators that ran, and the bytes that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.moved = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns):
            leaves = torch.utils._pytree.tree_leaves([args, kwargs, result])
            self.launches += 1
            self.moved += sum(t.nbytes for t in leaves if isinstance(t, Tensor))
        return result


@pytest.mark.parametrize("op", ["norm_act", "bias_act", "slope_penalty", "conv3d"])
def test_a_trial_of_native_kernels_takes_seconds(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Counted() as random:
        assert certify.certify(op, "native", CPU, shapes=SHAPES).problems == []
    # What is large is counted on small volumes: as many operators, bytes in proportion.
    scale = 2**12 if op != "conv3d" else 2**9
    volumes = [((1, 64, 8, 8, 4), 64), ((1, 576, 2, 2, 2), 36)]
    for (small, _), (real, _) in zip(volumes, production.VOLUMES, strict=True):
        assert math.prod(real) == 2**12 * math.prod(small)
    monkeypatch.setattr(production, "VOLUMES", volumes)
    monkeypatch.setattr(production, "_free", lambda device: math.inf)
    monkeypatch.setattr(production, "BEYOND", (33, 64, 8, 8, 4))
    monkeypatch.setitem(production.CONVOLUTIONS, "conv3d", (2, 1, 16, 16, 4, 2))
    with Counted() as large, implementation("native"):
        production.LARGE[op](CPU)
    launches = random.launches + large.launches
    moved = random.moved + scale * large.moved
    seconds = START + launches * LAUNCH + moved / BANDWIDTH
    print(f"{op}: {launches} launches, {moved / 1e9:.1f} GB, {seconds:.1f} s")
    assert launches > 100 and seconds <= GOAL
