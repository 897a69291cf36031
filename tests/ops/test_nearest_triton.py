"""The Triton search against the definition; of its machine code see test_triton_machine_code.py."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.kernels import nearest as kernels
from fastgan.ops import implementation, nearest
from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.triton import nearest as triton_nearest
from fastgan.ops.implementations.triton import runtime
from fastgan.reference.nearest import nearest as reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INTEGERS = [torch.int16, torch.int8, torch.uint8]


@pytest.fixture(autouse=True)
def triton() -> Iterator[None]:
    with implementation("triton"), torch.device(DEVICE):
        yield


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SEGMENT", 1024)


def rows(count: int, features: int, dtype: torch.dtype) -> torch.Tensor:
    if dtype.is_floating_point:
        return torch.randn(count, features).to(dtype)
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max + 1, (count, features), dtype=dtype)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
def test_forward_matches_reference(dtype, short_segments) -> None:
    # one number; whole tiles and rests; two segments and a rest
    for n, m, features, k in ((1, 1, 1, 1), (5, 7, 515, 3), (2, 3, 2050, 2)):
        query, target = rows(n, features, dtype), rows(m, features, dtype)
        distance, index = nearest(query, target, k)
        expected, at = reference(query, target, k)
        assert torch.equal(index, at)
        torch.testing.assert_close(distance, expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_planted_near_copies(offset) -> None:
    target = (torch.randn(9, 600) + offset).float()
    noise = torch.nn.functional.normalize(torch.randn(6, 600).double())
    sizes = 10.0 ** -torch.arange(1, 7).double()[:, None]
    query = (target[2:8].double() + sizes * 1200**0.5 * noise).float()
    distance, index = nearest(query, target)
    expected = (query.double() - target[2:8].double()).norm(dim=1)
    assert index[:, 0].tolist() == list(range(2, 8))
    torch.testing.assert_close(distance[:, 0], expected, rtol=1e-13, atol=0.0)
    assert nearest(target[:2], target)[0].abs().max() == 0


def test_first_pass_keeps_its_bound() -> None:
    """Also where squares leave float32, at either end."""
    for scale in (1.0, 1e-21, 1e-30, 1e17):
        query, target = torch.randn(3, 1500) * scale, torch.randn(4, 1500) * scale
        with np.errstate(over="ignore"):
            found = kernels.all_pairs(query, target)
        exact = reference(query, target, 4)
        exact = torch.empty_like(found).scatter_(1, exact[1], exact[0].square())
        bound = kernels.ROUNDING * exact + kernels.SMALLEST * 1500
        assert ((found - exact).abs() <= bound).all()
    big = torch.full((1, 40), 3e38)
    with np.errstate(over="ignore"):
        distance, index = nearest(big, torch.cat((-big, big, 0.5 * big)), 3)
    expected, at = reference(big, torch.cat((-big, big, 0.5 * big)), 3)
    assert torch.equal(index, at)
    torch.testing.assert_close(distance, expected, rtol=1e-13, atol=0.0)


def test_rounded_ties_are_told_apart() -> None:
    """Targets whose distances float32 cannot order."""
    direction = torch.nn.functional.normalize(torch.randn(30, 200).double())
    target = (direction * (1 + 1e-7 * torch.rand(30, 1).double())).float()
    query = 1e-8 * torch.randn(2, 200)
    distance, index = nearest(query, target, 4)
    expected, at = reference(query, target, 4)
    assert torch.equal(index, at)
    torch.testing.assert_close(distance, expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=str)
def test_first_index_on_ties_and_exclude(dtype) -> None:
    base = rows(3, 33, dtype)
    target = base[torch.randint(0, 3, (20,))]
    assert torch.equal(nearest(base, target, 9)[1], reference(base, target, 9)[1])
    x, group = rows(8, 20, dtype), torch.arange(8) // 2
    found = nearest(x, x, 3, exclude=(group, group))
    expected = reference(x, x, 3, excluded=group[:, None] == group[None])
    assert torch.equal(found[1], expected[1])


def test_non_finite_rows_poison_only_themselves() -> None:
    query, target = rows(4, 530, torch.float32), rows(6, 530, torch.float32)
    query[1, 529], target[0, 0], target[4, 500] = torch.nan, -torch.inf, torch.nan
    with pytest.warns(UserWarning, match="1 of 4 queries and 2 of 6 targets"):
        distance, index = nearest(query, target, 2)
    assert distance[1].isnan().all() and (index[1] == -1).all()
    good, kept = [0, 2, 3], torch.tensor([1, 2, 3, 5])
    assert torch.equal(index[good], kept[reference(query[good], target[kept], 2)[1]])
    bad = torch.full((1, 530), torch.nan)
    *_, bad_query, bad_target = triton_nearest.nearest(bad, target, 1, None)
    assert bad_query.all() and bad_target.nonzero().flatten().tolist() == [0, 4]


def test_answers_do_not_depend_on_blocks(monkeypatch, short_segments) -> None:
    query, target = rows(5, 1100, torch.float32), rows(7, 1100, torch.float32)
    expected = nearest(query, target, 3)
    monkeypatch.setattr(triton_nearest, "_MOST_PAIRS", 24)
    monkeypatch.setattr(triton_nearest, "_MOST_CHOSEN", 4)
    found = nearest(query, target, 3)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_never_chosen_by_itself() -> None:
    with implementation("auto"):
        assert dispatch.choose("nearest", torch.zeros(2, 3)) != "triton"


def test_rejects_what_it_cannot_serve(monkeypatch) -> None:
    with pytest.raises(ConfigError, match="float64, uint8, int8 and int16, got int64"):
        dispatch.choose("nearest", torch.zeros(2, 3).long())
    monkeypatch.setattr(runtime, "interpreted", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match="has Triton kernels for GPUs, got cpu"):
            nearest(torch.zeros(2, 3, device="cpu"), torch.zeros(2, 3, device="cpu"))


def test_launches_on_the_device_of_its_rows_and_within_the_grid(monkeypatch) -> None:
    """Each launch stands under a guard; a million queries need no second dimension."""
    guarded: list[torch.Tensor] = []
    grids = []

    class Guard:
        def __init__(self, rows: torch.Tensor) -> None:
            self.rows = rows

        def __enter__(self) -> None:
            guarded.append(self.rows)

        def __exit__(self, *_: object) -> None:
            guarded.pop()

    class Launches:
        def __getitem__(self, grid: tuple[int, ...]):
            grids.append(grid)
            assert guarded, "a launch on whichever device is current"
            return lambda *args, **kwargs: None

    monkeypatch.setattr(torch.cuda, "device_of", Guard)
    for name in ("all_pairs", "chosen_pairs", "merge"):
        monkeypatch.setattr(kernels, f"nearest_{name}_kernel", Launches())
    query, target = (torch.empty(n, 1 << 17, device="meta") for n in (1 << 20, 3))
    kernels.all_pairs(query, target)
    row = torch.empty(5, dtype=torch.int64, device="meta")
    kernels.chosen_pairs(query, target, row, row)
    assert grids[0] == (1 << 18, 2) and len(grids) == 4
    assert all(n <= 65535 for grid in grids for n in grid[1:])
