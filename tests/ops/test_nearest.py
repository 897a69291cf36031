from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.ops import implementation, nearest
from fastgan.reference import nearest_blocks
from fastgan.reference.nearest import nearest as reference

# N, M, shape of a row, k
CASES = [
    (1, 1, (1,), 1),
    (3, 17, (5,), 4),
    (5, 3, (2, 3, 4, 5), 3),
    (33, 70, (129,), 7),
]
DTYPES = [
    *(torch.float64, torch.float32, torch.bfloat16, torch.float16),
    *(torch.uint8, torch.int8, torch.int16),
]


def rows(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    if dtype.is_floating_point:
        return torch.randn(count, *shape).to(dtype)
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max + 1, (count, *shape), dtype=dtype)


@pytest.fixture(params=["chosen", "reference", "reference in many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "chosen":
        yield
        return
    if request.param == "reference in many blocks":
        monkeypatch.setattr(nearest_blocks, "_MOST_ROWS", 4)
        monkeypatch.setattr(nearest_blocks, "_EXACT_FEATURES", 7)
    with implementation("reference"):
        yield


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_matches_reference(case, dtype, device, blocks) -> None:
    n, m, shape, k = case
    query, target = rows(n, shape, dtype), rows(m, shape, dtype)
    distance, index = nearest(query.to(device), target.to(device), k)
    expected, at = reference(query, target, k)
    assert distance.dtype == torch.float64 and index.dtype == torch.int64
    torch.testing.assert_close(distance.cpu(), expected, rtol=1e-12, atol=0.0)
    assert torch.equal(index.cpu(), at)


def test_near_copies_do_not_cancel() -> None:
    target = torch.randn(20, 4096) + 100
    query = target[7:8] + 1e-6 * torch.randn(1, 4096).double()
    query = query.float()
    query[0, 0] = torch.nextafter(target[7, 0], torch.tensor(1e9))
    distance, index = nearest(query, target)
    expected = (query.double() - target[7].double()).norm()
    assert index.item() == 7
    torch.testing.assert_close(distance[0, 0], expected, rtol=1e-12, atol=0.0)
    assert nearest(target, target)[0].abs().max() == 0


def test_full_range_integers_are_exact() -> None:
    low = torch.full((1, 70_000), -32768, dtype=torch.int16)
    high = torch.full((1, 70_000), 32767, dtype=torch.int16)
    near = low.clone()
    near[0, 0] += 1
    distance, index = nearest(low, torch.cat((high, near)), k=2)
    assert index.tolist() == [[1, 0]] and distance[0, 0] == 1
    assert distance[0, 1] == (70_000 * 65535**2) ** 0.5


def test_first_index_on_ties(blocks) -> None:
    target = torch.tensor([[2.0], [1.0], [-1.0], [1.0], [-1.0], [3.0], [1.0]])
    _, index = nearest(torch.zeros(1, 1), target, k=6)
    assert index.tolist() == [[1, 2, 3, 4, 6, 0]]
    _, index = nearest(torch.zeros(1, 1).short(), target.short(), k=6)
    assert index.tolist() == [[1, 2, 3, 4, 6, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=str)
def test_exclude(dtype, blocks) -> None:
    x = rows(12, (6,), dtype)
    group = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    found = nearest(x, x, k=3, exclude=(group, group.int()))
    expected = reference(x, x, 3, excluded=group[:, None] == group[None])
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=0.0)


def test_non_finite_rows_poison_only_themselves(blocks) -> None:
    query, target = torch.randn(6, 5), torch.randn(9, 5)
    clean = nearest(query, target, k=2)
    query[1, 3], query[4, 0] = torch.nan, -torch.inf
    bad = torch.full((1, 5), torch.nan)
    with pytest.warns(UserWarning, match="2 of 6 queries and 1 of 10 targets hold NaN"):
        distance, index = nearest(query, torch.cat((target, bad)), k=2)
    assert distance[[1, 4]].isnan().all() and (index[[1, 4]] == -1).all()
    rest = [0, 2, 3, 5]
    assert torch.equal(distance[rest], clean[0][rest]) and torch.equal(index[rest], clean[1][rest])


def test_layouts() -> None:
    query, target = torch.randn(4, 3, 2, 4, 4), torch.randn(7, 3, 2, 4, 4)
    expected = nearest(query, target, k=2)
    last = torch.channels_last_3d
    found = nearest(query.to(memory_format=last), target.to(memory_format=last), k=2)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


X = torch.zeros(4, 3)
REJECTED = [
    ((X[:0], X), {}, r"nearest: query must not be empty, got \[0, 3\]"),
    ((X, X[:0]), {}, r"target must not be empty"),
    ((X[:, :0], X[:, :0]), {}, r"query must not be empty"),
    ((X[0], X), {}, r"query must be \[rows, ...\]"),
    ((X, X[:, :2]), {}, r"target must be \[M, 3\] like query, got \[4, 2\]"),
    ((X, X.double()), {}, r"target must be torch.float32 like query, got torch.float64"),
    ((X.long(), X.long()), {}, r"query must be floating, uint8, int8 or int16, got torch.int64"),
    ((X, X.to("meta")), {}, r"target must be on cpu, got meta"),
    ((X, X), {"k": 0}, r"k must be 1 to M = 4, got 0"),
    ((X, X), {"k": 5}, r"k must be 1 to M = 4, got 5"),
    ((X, X), {"exclude": (torch.arange(3), torch.arange(4))}, r"exclude must give integers \[4\]"),
    ((X, X), {"exclude": (torch.zeros(4), torch.arange(4))}, r"integers \[4\] for query"),
    (
        (X, X),
        {"k": 4, "exclude": (torch.arange(4), torch.arange(4))},
        r"query 0 has 3 targets left after exclusion",
    ),
]


@pytest.mark.parametrize(("args", "settings", "message"), REJECTED)
def test_rejects_bad_arguments(args, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        nearest(*args, **settings)


def test_rejects_too_few_finite_targets() -> None:
    target = torch.tensor([[1.0], [torch.nan]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ConfigError, match="query 0 has 1 targets left"):
            nearest(torch.zeros(1, 1), target, k=2)


def test_deterministic() -> None:
    query, target = torch.randn(9, 77), torch.randn(50, 77)
    expected = nearest(query, target, k=3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts = [nearest(q, target, k=3) for q in query.split(2)]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.cat([p[0] for p in parts]), expected[0])
    assert torch.equal(torch.cat([p[1] for p in parts]), expected[1])
