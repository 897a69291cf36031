"""The native search on every path, dtype and instruction set against float64 and exact integers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cpu import nearest as native
from fastgan.reference.nearest import nearest as reference

PATHS = ["direct", "dots", "wide"]
FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INTEGERS = [torch.int16, torch.int8, torch.uint8]
# N, M, F, k: ones, primes, more than a tile, a panel, a chunk of 512 features, a segment of 65536
CASES = [(1, 1, 1, 1), (5, 97, 7, 5), (70, 53, 129, 3), (9, 50, 515, 50), (3, 9, 1031, 2)]
LONG = (3, 5, 65536 + 517, 2)


def rows(n: int, features: int, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(n, features).to(dtype)
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max + 1, (n, features), dtype=dtype)


def search(query: Tensor, target: Tensor, k: int, path: str, **settings) -> tuple[Tensor, Tensor]:
    squared, index, *_ = native.nearest(query, target, k, settings.get("groups"), path=path)
    return squared.sqrt(), index


def test_extension_is_loaded() -> None:
    assert extension.reason() is None


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_forward_matches_reference(dtype, path, level) -> None:
    for n, m, features, k in CASES if path == "wide" else [*CASES, LONG]:
        query, target = rows(n, features, dtype), rows(m, features, dtype)
        distance, index = search(query, target, k, path)
        expected, at = reference(query, target, k)
        assert torch.equal(index, at), (n, m, features, k)
        if dtype in INTEGERS:
            assert torch.equal(distance, expected)
        else:
            torch.testing.assert_close(distance, expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_paths_agree_bit_for_bit(dtype, path, level) -> None:
    query, target = rows(40, 700, dtype), rows(90, 700, dtype)
    expected = search(query, target, 4, "direct")
    found = search(query, target, 4, path)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("path", PATHS)
def test_planted_near_copies(path, offset, level) -> None:
    target = (torch.randn(120, 640) + offset).float()
    typical = (2 * 640) ** 0.5
    noise = torch.nn.functional.normalize(torch.randn(6, 640, dtype=torch.float64))
    sizes = 10.0 ** -torch.arange(1, 7, dtype=torch.float64)[:, None]
    # rounding to float32 changes the pair; what it became is what must be found
    query = (target[10:16].double() + sizes * typical * noise).float()
    distance, index = search(query, target, 1, path)
    expected = (query.double() - target[10:16].double()).norm(dim=1)
    assert index[:, 0].tolist() == list(range(10, 16))
    torch.testing.assert_close(distance[:, 0], expected, rtol=1e-13, atol=0.0)
    own, at = search(target, target, 1, path)
    assert own.abs().max() == 0 and at[:, 0].tolist() == list(range(120))


@pytest.mark.parametrize("path", PATHS)
def test_adversarial_scales(path, level) -> None:
    """Rows of very different sizes, one huge feature, values near the ends of float32."""
    target = torch.randn(60, 520) * 10.0 ** torch.randint(-30, 18, (60, 1))
    target[:, 3] *= 1e4
    target[7], target[8] = 0.0, 1e-45
    query = torch.cat((target[:30] * (1 + 1e-6), torch.zeros(1, 520), torch.full((1, 520), 1e18)))
    distance, index = search(query, target, 3, path)
    expected, at = reference(query, target, 3)
    assert torch.equal(index, at)
    torch.testing.assert_close(distance, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("path", ["dots", "wide"])
def test_more_candidates_than_can_be_kept(path, level) -> None:
    # Targets on a sphere around the query that are closer to each other than rounding can tell.
    direction = torch.nn.functional.normalize(torch.randn(900, 300, dtype=torch.float64))
    sizes = 1 + 1e-6 * torch.rand(900, 1, dtype=torch.float64)
    target, query = (direction * sizes).float(), torch.zeros(30, 300)
    query[1:] += 1e-7 * torch.randn(29, 300)
    distance, index = search(query, target, 2, path)
    expected, at = reference(query, target, 2)
    assert torch.equal(index, at)
    torch.testing.assert_close(distance, expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("largest", [255, 2047, 3071, 4095, 5791, 8191, 16383, 32767])
@pytest.mark.parametrize("path", PATHS)
def test_integers_never_overflow(path, largest, level) -> None:
    features = 2100
    low = torch.full((1, features), -largest - 1, dtype=torch.int16)
    high = torch.full((1, features), largest, dtype=torch.int16)
    mixed = torch.where(torch.arange(features) % 2 == 0, low, high)
    query = torch.cat((low, high, mixed, rows(6, features, torch.int16) % (largest + 1)))
    target = torch.cat((query, low + 1, high - 1)).flip(0)
    distance, index = search(query, target, len(target), path)
    expected, at = reference(query, target, len(target))
    assert torch.equal(index, at) and torch.equal(distance, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_first_index_on_ties(dtype, path, level) -> None:
    base = rows(4, 33, dtype)
    target = base[torch.randint(0, 4, (200,))]
    distance, index = search(base, target, 20, path)
    assert torch.equal(index, reference(base, target, 20)[1]) and (distance[:, 0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_exclude_masks_groups(dtype, path, level) -> None:
    x = rows(64, 20, dtype)
    group = torch.arange(64) // 4
    found = search(x, x, 5, path, groups=(group, group))
    expected = reference(x, x, 5, excluded=group[:, None] == group[None])
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[0], expected[0], rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("path", PATHS)
def test_non_finite_rows_poison_only_themselves(path, value, level) -> None:
    query, target = rows(30, 530, torch.float32), rows(40, 530, torch.float32)
    query[3, 529], target[0, 0], target[25, 500] = value, value, value
    squared, index, bad_query, bad_target = native.nearest(query, target, 2, None, path=path)
    distance = squared.sqrt()
    assert bad_query.nonzero().flatten().tolist() == [3]
    assert bad_target.nonzero().flatten().tolist() == [0, 25]
    assert distance[3].isnan().all() and (index[3] == -1).all()
    good = [i for i in range(30) if i != 3]
    kept = torch.tensor([j for j in range(40) if j not in (0, 25)])
    expected, at = reference(query[good], target[kept], 2)
    assert torch.equal(index[good], kept[at])
    torch.testing.assert_close(distance[good], expected, rtol=1e-13, atol=0.0)


def test_all_queries_bad_still_counts_targets() -> None:
    query, target = torch.full((2, 3), torch.nan), torch.zeros(4, 3)
    target[2, 1] = torch.inf
    *_, bad_query, bad_target = native.nearest(query, target, 1, None)
    assert bad_query.all() and bad_target.tolist() == [False, False, True, False]


@pytest.mark.parametrize("path", PATHS)
def test_fewer_targets_than_k_are_marked(path) -> None:
    x = rows(40, 9, torch.float32)
    group = torch.zeros(40, dtype=torch.int64)
    group[:3] = torch.arange(1, 4)
    distance, index = search(x, x, 5, path, groups=(group, group))
    assert (index[3:, 3:] == -1).all() and distance[3:, 3:].isnan().all()
    assert (index[3:, :3] >= 0).all() and (index[3:, :3] < 3).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int16], ids=str)
def test_metamorphic(dtype, level) -> None:
    query, target = rows(26, 300, dtype), rows(80, 300, dtype)
    if dtype == torch.int16:
        query, target = query // 4, target // 4
    for path in PATHS:
        distance, index = search(query, target, 3, path)
        parts = [search(q, target, 3, path) for q in query.split(7)]
        same = [
            # zero padding, which also moves the ends of chunks; query split; a permutation of rows
            search(*(torch.nn.functional.pad(x, (0, 512)) for x in (query, target)), 3, path),
            tuple(map(torch.cat, zip(*parts, strict=True))),
            search(query.flip(0), target, 3, path),
        ]
        same[2] = (same[2][0].flip(0), same[2][1].flip(0))
        for found in same:
            assert torch.equal(found[0], distance) and torch.equal(found[1], index)
        reordered = search(query, target.flip(0), 3, path)
        assert torch.equal(reordered[0], distance) and torch.equal(79 - reordered[1], index)
        if dtype == torch.int16:
            found = search(query + 4000, target + 4000, 3, path)
            assert torch.equal(found[0], distance) and torch.equal(found[1], index)
        else:
            found = search(query * 2**-20, target * 2**-20, 3, path)
            assert torch.equal(found[0], distance * 2**-20) and torch.equal(found[1], index)


@pytest.mark.parametrize("path", PATHS)
def test_lattice_of_integers_in_float32(path, level) -> None:
    query, target = (torch.randint(-1000, 1000, (30, 600)) for _ in range(2))
    found = search(query.float(), target.float(), 4, path)
    exact = search(query.short(), target.short(), 4, path)
    assert torch.equal(found[0], exact[0]) and torch.equal(found[1], exact[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_deterministic(dtype, path) -> None:
    query, target = rows(300, 65, dtype), rows(500, 65, dtype)
    long_query, long_target = rows(5, 70_000, dtype), rows(30, 70_000, dtype)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3, 5):
        torch.set_num_threads(count)
        try:
            found = search(query, target, 3, path)
            if path != "wide":
                found += search(long_query, long_target, 3, path)
            results.append(found)
        finally:
            torch.set_num_threads(threads)
    for found in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found, results[0], strict=True))


X, OUT = torch.zeros(4, 3), (torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4, 1).long())
BAD = (torch.zeros(4, dtype=torch.uint8), torch.zeros(4, dtype=torch.uint8))
REJECTED = [
    ((X, X, 1, None, None, 1, "best", *OUT, *BAD), ValueError, "path must be auto, direct"),
    ((X, X, 5, None, None, 1, "auto", *OUT, *BAD), ValueError, "k must be 1 to M, got 5"),
    ((X[0], X, 1, None, None, 1, "auto", *OUT, *BAD), ValueError, "query must be contiguous"),
    ((X.T, X, 1, None, None, 1, "auto", *OUT, *BAD), ValueError, "query must be contiguous"),
    ((X, X.double(), 1, None, None, 1, "auto", *OUT, *BAD), ValueError, "target must have dtype"),
    ((X.long(), X.long(), 1, None, None, 1, "auto", *OUT, *BAD), TypeError, "query must be float"),
    ((X, X, 1, OUT[1][:, 0], None, 1, "auto", *OUT, *BAD), ValueError, "must come together"),
    ((X, X, 1, X, X, 1, "auto", *OUT, *BAD), ValueError, r"query_group must be contiguous int64"),
    ((X, X, 1, None, None, 1, "auto", OUT[1], OUT[1], *BAD), ValueError, "squared must be contig"),
    ((X, X, 1, None, None, 1, "auto", *OUT, *BAD[:1], BAD[0][:2]), ValueError, "bad_target must"),
]


@pytest.mark.parametrize(("args", "error", "message"), REJECTED)
def test_binding_rejects(args, error, message) -> None:
    with pytest.raises(error, match=message):
        extension._C.nearest(*args)
