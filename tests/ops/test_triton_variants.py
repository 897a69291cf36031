"""How many kernels Triton compiles in the trials of a certificate."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "bench" / "tools"
# A variant takes about a second, and is compiled at the first use of a machine.
MOST = 60


LEAST = {"norm_act": 9, "conv3d_channels": 12, "norm_act_conv": 20, "nearest": 2}


@pytest.mark.parametrize("operator", LEAST)
def test_a_trial_compiles_few_variants(operator, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    found = importlib.import_module("triton_variants").count(operator)[operator]
    sys.modules.pop("triton_variants")
    assert LEAST[operator] <= sum(found.values()) <= MOST, found
