"""Folding: a permutation of voxels, exact and differentiable to any order."""

from __future__ import annotations

import pytest
import torch

from fastgan.nn import fold, unfold

FACTORS = [(1, 1, 1), (2, 2, 2), (1, 2, 3), (2, 1, 1)]


@pytest.mark.parametrize("factors", FACTORS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_unfold_undoes_fold(factors: tuple[int, int, int], channels: int) -> None:
    x = torch.randn(2, channels, 4, 6, 6)
    folded = fold(x, factors)
    sizes = [n // f for n, f in zip(x.shape[2:], factors, strict=True)]
    assert list(folded.shape) == [2, channels * factors[0] * factors[1] * factors[2], *sizes]
    assert torch.equal(unfold(folded, factors), x)


def test_a_block_becomes_the_channels_of_one_voxel() -> None:
    x = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    folded = fold(x, (2, 2, 2))
    assert torch.equal(folded[0, :, 1, 0, 1], x[0, 0, 2:4, 0:2, 2:4].flatten())


def test_layout_is_channels_last() -> None:
    folded = fold(torch.randn(2, 1, 4, 4, 4), (2, 2, 2))
    assert folded.is_contiguous(memory_format=torch.channels_last_3d)
    unfolded = unfold(folded, (2, 2, 2))
    assert unfolded.is_contiguous(memory_format=torch.channels_last_3d)


def test_gradgradcheck() -> None:
    x = torch.randn(1, 2, 2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: fold(t, (2, 2, 1)).pow(3), x)
    assert torch.autograd.gradgradcheck(lambda t: unfold(t, (1, 2, 1)).pow(3), x)
