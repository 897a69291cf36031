"""The history of generated volumes: what it shows, what it keeps, and that it is state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.gans import Pool

SHAPE = (1, 2, 2, 2)


def numbered(first: int, count: int) -> Tensor:
    """Volumes that are their own number everywhere, far from each other."""
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1, 1).expand(-1, *SHAPE) / 1e3


def numbers(volumes: Tensor) -> list[int]:
    assert torch.equal(volumes, volumes[:, :, :1, :1, :1].expand_as(volumes))
    return (volumes[:, 0, 0, 0, 0] * 1e3).round().int().tolist()


def test_is_filled_before_anything_is_exchanged() -> None:
    pool, rng = Pool(4, SHAPE), np.random.default_rng(0)
    assert numbers(pool.exchange(numbered(1, 3), rng)) == [1, 2, 3]
    assert pool.filled == 3 and numbers(pool.volumes) == [1, 2, 3, 0]
    shown = numbers(pool.exchange(numbered(4, 1), rng))
    assert shown == [4] and pool.filled == 4 and numbers(pool.volumes) == [1, 2, 3, 4]


def test_half_of_the_fresh_ones_replace_the_one_that_is_shown() -> None:
    pool, rng = Pool(5, SHAPE), np.random.default_rng(1)
    pool.exchange(numbered(1, 5), rng)
    exchanged = 0
    held = numbers(pool.volumes)
    for fresh in range(10, 410):
        (shown,) = numbers(pool.exchange(numbered(fresh, 1), rng))
        after = numbers(pool.volumes)
        if shown == fresh:
            assert after == held
        else:
            exchanged += 1
            place = held.index(shown)
            assert after == [*held[:place], fresh, *held[place + 1 :]]
        held = after
    # Binomial of 400 and 1/2: five standard deviations are 50.
    assert abs(exchanged - 200) < 50
    assert pool.filled == 5


def test_every_place_is_exchanged() -> None:
    pool, rng = Pool(3, SHAPE), np.random.default_rng(0)
    pool.exchange(numbered(1, 3), rng)
    pool.exchange(numbered(100, 60), rng)
    assert min(numbers(pool.volumes)) >= 100


def test_a_batch_larger_than_the_pool() -> None:
    pool = Pool(2, SHAPE)
    shown = numbers(pool.exchange(numbered(1, 7), np.random.default_rng(3)))
    assert len(shown) == 7 and shown[:2] == [1, 2]
    assert {*shown, *numbers(pool.volumes)} == set(range(1, 8))


def test_is_a_function_of_contents_and_draws() -> None:
    pools = [Pool(3, SHAPE) for _ in range(2)]
    first = [p.exchange(numbered(1, 9), np.random.default_rng(5)) for p in pools]
    assert torch.equal(*first)
    # What a checkpoint holds is all there is.
    fresh = Pool(3, SHAPE)
    fresh.load_state_dict(pools[0].state_dict())
    assert set(pools[0].state_dict()) == {"volumes", "filled"}
    later = [p.exchange(numbered(20, 9), np.random.default_rng(6)) for p in (pools[0], fresh)]
    assert torch.equal(*later)


def test_size_zero_hands_through() -> None:
    pool, x = Pool(0, SHAPE), numbered(1, 3)
    assert pool.exchange(x, np.random.default_rng(0)) is x
    assert pool.volumes.shape == (0, *SHAPE)


def test_nan_does_not_outlive_its_step() -> None:
    pool, x = Pool(2, SHAPE), torch.full((2, *SHAPE), float("nan"))
    x[1] = float("inf")
    pool.exchange(x, np.random.default_rng(0))
    assert pool.volumes.isfinite().all()


def test_holds_no_graph_and_keeps_the_dtype() -> None:
    x = numbered(1, 2).to(torch.bfloat16).requires_grad_()
    shown = Pool(4, SHAPE).exchange(x, np.random.default_rng(0))
    assert not shown.requires_grad and shown.dtype == torch.bfloat16
    assert torch.equal(shown, x.detach())


def test_rejects_a_negative_size() -> None:
    with pytest.raises(ConfigError, match="pool_size: must be >= 0, got -1"):
        Pool(-1, SHAPE)
