"""Searches by coarse versions of volumes: the same answers, and how much of the data they read."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops import NearestIndex, implementation, nearest
from fastgan.ops.nearest import index as nearest_index
from fastgan.ops.nearest.index import transforms

DTYPES = [
    *(torch.float32, torch.bfloat16, torch.float16, torch.float64),
    *(torch.int16, torch.int8, torch.uint8),
]
# even, odd sides, channels, flat, one block
SHAPES = [(16, 16, 16), (7, 9, 5), (2, 6, 5, 8), (2, 33, 70), (2, 2, 2)]


def volumes(n: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Smooth volumes, which coarse versions tell apart, with noise."""
    coarse = torch.randn(n, 1, 3, 3, 3)
    smooth = torch.nn.functional.interpolate(coarse, size=shape[-3:], mode="trilinear")
    x = smooth.expand(n, shape[0] if len(shape) == 4 else 1, *shape[-3:]).reshape(n, *shape)
    x = 20 * x + torch.randn(n, *shape)
    return x.abs().clamp(max=127).to(dtype) if dtype == torch.uint8 else x.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_search_equals_brute_force(shape, dtype, level) -> None:
    target, query = volumes(40, shape, dtype), volumes(9, shape, dtype)
    query[:3] = target[5:8]
    index = NearestIndex(target, method="pyramid")
    for k in (1, 7):
        found = index.search(query, k)
        distance, at = nearest(query, target, k)
        assert torch.equal(found.index, at) and torch.equal(found.distance, distance)
        assert 0 < found.read <= 1.4


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e17, 1e30])
def test_bounds_hold_far_from_zero(offset, level) -> None:
    """There means and deviations lose digits, and numbers can leave float32."""
    target = (volumes(50, (8, 8, 8), torch.float64) + offset).float()
    query = target[:6] * (1 + 2.0**-23)
    target[9] = 0
    found = NearestIndex(target, method="pyramid").search(query, 3)
    distance, at = nearest(query, target, 3)
    assert torch.equal(found.index, at) and torch.equal(found.distance, distance)


def test_reads_little_of_smooth_volumes() -> None:
    target = volumes(400, (16, 16, 16), torch.float32)
    query = target[:8] + 0.1 * torch.randn(8, 16, 16, 16)
    found = NearestIndex(target, method="pyramid").search(query)
    assert found.index[:, 0].tolist() == list(range(8))
    # one volume in 400 must be read in full
    assert 0.0025 < found.read < 0.02


def test_exclude_and_bad_rows() -> None:
    x = volumes(30, (4, 6, 8), torch.float32)
    group = torch.arange(30) // 3
    found = NearestIndex(x, method="pyramid").search(x, 4, exclude=(group, group))
    distance, at = nearest(x, x, 4, exclude=(group, group))
    assert torch.equal(found.index, at) and torch.equal(found.distance, distance)
    y = x.clone()
    y[4, 1, 1, 1], y[9, 0, 0, 0] = torch.nan, torch.inf
    with pytest.warns(UserWarning, match="2 of 30 queries and 2 of 30 targets"):
        found = NearestIndex(y, method="pyramid").search(y, 2)
    assert found.distance[[4, 9]].isnan().all() and (found.index[[4, 9]] == -1).all()
    good = [i for i in range(30) if i not in (4, 9)]
    distance, at = nearest(x[good], x[good], 2)
    assert torch.equal(found.index[good], torch.tensor(good)[at])
    assert torch.equal(found.distance[good], distance)


def test_deterministic() -> None:
    target, query = volumes(60, (8, 8, 8), torch.int16), volumes(10, (8, 8, 8), torch.int16)
    index = NearestIndex(target, method="pyramid")
    expected = index.search(query, 5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = NearestIndex(target, method="pyramid").search(query, 5)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found.index, expected.index) and found.read == expected.read


def test_auto_builds_for_small_calls_once_it_costs_little_beside_them() -> None:
    index = NearestIndex(volumes(40, (8, 8, 8), torch.float32))
    batch = index.target + 0.1 * torch.randn(index.target.shape)
    calls = 0
    while index._pyramid is None:
        assert index.search(batch).index[:, 0].tolist() == list(range(40))
        calls += 1
        assert calls < 200
    # the index is worth 256 queries: the call pays for 40, the others are to be 5 % of what came
    assert calls == 1 + (256 - 40) * 20 // 40


def test_auto_falls_back_where_the_pyramid_reads_much() -> None:
    queries = torch.randn(260, 8, 8, 8)
    # few targets are tried with a pyramid of all, many with one of a part
    for count in (60, 120):
        noise = torch.randn(count, 8, 8, 8)
        index = NearestIndex(noise)
        for _ in range(2):
            found = index.search(queries, 2)
            distance, at = nearest(queries, noise, 2)
            assert torch.equal(found.index, at) and torch.equal(found.distance, distance)
            assert (index._pyramid is not None) == (count == 60) and found.read > 0.9
        # known by now, and not tried again
        assert found.read == 1
    smooth = NearestIndex(volumes(300, (16, 16, 16), torch.float32))
    few = smooth.search(smooth.target[:3])
    assert smooth._pyramid is None and few.read == 1
    many = smooth.search(smooth.target[:260])
    assert many.read < 0.05 and many.index[:, 0].tolist() == list(range(260))
    assert many.distance.max() == 0
    assert smooth.search(smooth.target[:3]).read < 0.05


def test_vectors_and_the_reference_have_no_pyramid() -> None:
    x = torch.randn(100, 6)
    assert NearestIndex(x).search(x).read == 1
    with pytest.raises(ConfigError, match=r"there is no pyramid: it needs volumes"):
        NearestIndex(x, method="pyramid")
    with implementation("reference"):
        assert NearestIndex(torch.randn(80, 4, 4, 4)).search(torch.randn(80, 4, 4, 4)).read == 1


@pytest.mark.parametrize("method", ["pyramid", "brute"])
def test_shifts_and_flips(method) -> None:
    target = volumes(12, (9, 10, 11), torch.float32)
    query = target[[3, 7]].clone()
    query[0] = query[0].roll((1, -2, 0), (0, 1, 2))
    query[1] = query[1].flip((0, 2))
    found = NearestIndex(target, method=method).search_transformed(query, 2, shift=2, flips=True)
    assert found.index[:, 0].tolist() == [3, 7] and (found.distance[:, 0] == 0).all()
    assert found.transform is not None
    assert found.transform[0][0] == ((-1, 2, 0), (False, False, False))
    assert found.transform[1][0] == ((0, 0, 0), (True, False, True))


def test_shifts_are_exact_over_the_searched_set() -> None:
    target, query = volumes(9, (5, 6, 5), torch.int16), volumes(4, (5, 6, 5), torch.int16)
    known = list(transforms(1, True))
    assert len(known) == 8 * 27 and known[0] == ((0, 0, 0), (False, False, False))
    center = target[:, 1:-1, 1:-1, 1:-1].double()
    every = torch.stack(
        [
            (nearest_index._transformed(query, t, 1).double()[:, None] - center[None])
            .flatten(2)
            .norm(dim=2)
            for t in known
        ]
    )
    best, which = every.min(dim=0)
    expected = best.sort(dim=1, stable=True)
    found = NearestIndex(target).search_transformed(query, 3, shift=1, flips=True)
    assert torch.equal(found.index, expected.indices[:, :3])
    torch.testing.assert_close(found.distance, expected.values[:, :3], rtol=1e-13, atol=0.0)
    assert found.transform is not None
    for n in range(4):
        chosen = [known[int(which[n, j])] for j in found.index[n]]
        assert found.transform[n] == chosen


X = torch.zeros(4, 3, 4, 5)
REJECTED = [
    (lambda: NearestIndex(X, method="best"), "method must be known, got best"),
    (lambda: NearestIndex(X[:0]), "must not be empty"),
    (lambda: NearestIndex(X).search(X[:, :2]), r"target must be \[M, 2, 4, 5\] like query"),
    (lambda: NearestIndex(X).search(X, 5), "k must be 1 to M = 4, got 5"),
    (lambda: NearestIndex(X).search(X.double()), "target must be torch.float64 like query"),
    (lambda: NearestIndex(X, method="pyramid").search(X, 4, exclude=(X[:, 0, 0, 0],) * 2), "exc"),
    (
        lambda: NearestIndex(X, method="pyramid").search(
            X, 4, exclude=(torch.arange(4), torch.arange(4))
        ),
        "query 0 has 3 targets left",
    ),
    (lambda: NearestIndex(X).search_transformed(X, shift=2), "shift must be >= 0 and below half"),
    (lambda: NearestIndex(X[:, 0, 0]).search_transformed(X[:, 0, 0]), "shifts need volumes"),
]


@pytest.mark.parametrize(("call", "message"), REJECTED)
def test_rejects_bad_arguments(call, message) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match=message):
            call()
