"""Entries of the kernels refuse tensors on different devices; one pretends to be elsewhere."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor

LAST = torch.channels_last_3d


def elsewhere(t: Tensor) -> Any:
    """What an entry reads of a tensor of a second GPU."""
    return types.SimpleNamespace(
        data_ptr=t.data_ptr,
        shape=t.shape,
        stride=t.stride,
        dtype=t.dtype,
        device=types.SimpleNamespace(type="cuda", index=1),
    )


def arguments() -> dict[str, tuple[list[Any], tuple[int, ...]]]:
    """Of an entry of each operator: what it is called with, and which places to move."""
    x, y = torch.ones(1, 1, 3, 3, 3), torch.ones(1, 16, 1, 1, 1).to(memory_format=LAST)
    weight, row = torch.ones(16, 1, 3, 3, 3), torch.ones(16)
    mean, scratch = torch.ones(1, 4), torch.empty(1 << 20, dtype=torch.uint8)
    bits = torch.empty(2, dtype=torch.uint8)
    geometry = [(1, 1, 1), (0, 0, 0)]
    return {
        "conv_single_fprop": ([x, weight, row, *geometry, 0, y], (0, 1, 2, 6)),
        "conv_single_dgrad": ([y, weight, *geometry, 0, x], (0, 1, 5)),
        "conv_single_wgrad": ([y, x, *geometry, 0, scratch, weight], (0, 1, 5, 6)),
        "norm_act_fwd": (
            [y, row, row, 4, 1e-5, 0.2, 0, scratch, y.clone(), mean, mean.clone()],
            (0, 1, 2, 7, 8, 9, 10),
        ),
        "bias_act_fwd": ([y, row, 0.2, 0, y.clone(), bits], (0, 1, 4, 5)),
        "slope_penalty_mix": ([y, y.clone(), torch.ones(1), 0, y.clone()], (0, 1, 2, 4)),
    }


CASES = [(name, place) for name, (_, places) in arguments().items() for place in places]


@pytest.mark.parametrize(("name", "place"), CASES)
def test_refuses_a_tensor_elsewhere(name: str, place: int, emulated) -> None:
    given = arguments()[name][0]
    given[place] = elsewhere(given[place])
    with pytest.raises(ValueError, match=f"{name}: .*, got .* on cuda:1"):
        getattr(emulated, name)(*given)
