"""The Triton kernels of norm_act: on the GPU where one is, else in the interpreter."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.kernels import tiles
from fastgan.ops import group_statistics, implementation, norm_act, norm_act_conv
from fastgan.ops.norm_act import norm_act_apply, norm_act_bwd, norm_act_bwd_bwd, norm_act_fwd
from fastgan.reference.norm_act import norm_act as reference
from fastgan.reference.norm_act_conv import norm_act_conv as reference_conv

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAST, FIRST = torch.channels_last_3d, torch.contiguous_format


class Case(NamedTuple):
    x: tuple[int, ...]
    num_groups: int
    affine: str = "C"  # the shape of weight and bias: "C", "BC", "weight", "bias" or "none"
    slope: float = 0.2
    eps: float = 1e-5
    dtype: torch.dtype = torch.float32
    form: torch.memory_format = LAST

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        layout = "first" if self.form == FIRST else "last"
        return f"{'x'.join(map(str, self.x))}-G{self.num_groups}-{self.affine}-{dtype}-{layout}"


CASES = [
    Case((1, 1, 2, 1, 1), 1, form=FIRST),
    # a block of channels that is not full; five tiles, the last not full; two splits
    Case((1, 12, 9, 8, 8), 12),
    Case((1, 12, 9, 8, 8), 12, dtype=torch.bfloat16),
    Case((2, 3, 13, 13, 13), 3, "weight", slope=0.0, form=FIRST),
    Case((2, 6, 3, 3, 3), 2, "BC", dtype=torch.float64),
    Case((3, 4, 2, 3, 2), 1, "none", dtype=torch.float64),
    Case((2, 24, 3, 3, 3), 3, "bias", slope=1.0, eps=0.3, dtype=torch.bfloat16),
    # two blocks of channels
    Case((1, 144, 3, 2, 2), 2),
]


@pytest.fixture(autouse=True)
def triton(monkeypatch: pytest.MonkeyPatch) -> Any:
    # Few programs with several tiles each, as large volumes have.
    monkeypatch.setattr(tiles, "_PROGRAMS", 2)
    with implementation("triton"):
        yield


def inputs(case: Case) -> list[Tensor | None]:
    shape = case.x[:2] if case.affine == "BC" else case.x[1:2]
    values: list[Tensor | None] = [1 + 2 * torch.randn(case.x)]
    for name in ("weight", "bias"):
        values.append(torch.randn(shape) if case.affine in ("C", "BC", name) else None)
    values = [None if v is None else v.bfloat16().to(DEVICE, case.dtype) for v in values]
    return [values[0].contiguous(memory_format=case.form), *values[1:]]


def both(case: Case) -> tuple[Any, Any]:
    settings = {"num_groups": case.num_groups, "eps": case.eps, "negative_slope": case.slope}
    return (
        lambda x, w, b: norm_act(x, w, b, **settings),
        lambda x, w, b: reference(x, w, b, **settings),
    )


def double(values: list[Tensor | None]) -> list[Tensor | None]:
    return [None if v is None else v.double().cpu() for v in values]


_computed: dict[Case, tuple[Any, Any]] = {}


@pytest.fixture(params=CASES, ids=str)
def found(request: pytest.FixtureRequest, orders: Any) -> tuple[Case, Any, Any]:
    """Value, first and second derivative of a case, ours and the reference's; computed once."""
    case = request.param
    if case not in _computed:
        values, (ours, stock) = inputs(case), both(case)
        _computed[case] = orders(ours, values), orders(stock, double(values))
    return case, *_computed[case]


def test_forward_matches_reference(found, close) -> None:
    case, ours, expected = found
    assert ours[0][0].dtype == case.dtype
    close(ours[0], expected[0], case.dtype)


def test_backward_matches_reference(found, close) -> None:
    case, ours, expected = found
    close(ours[1], expected[1], case.dtype)


def test_second_order_matches_reference(found, close) -> None:
    case, ours, expected = found
    close(ours[2], expected[2], case.dtype)


def leaves() -> list[Tensor]:
    shapes = ((1, 2, 3), (2,), (2,))
    return [torch.randn(s, dtype=torch.float64, device=DEVICE).requires_grad_() for s in shapes]


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(both(Case((), 1))[0], leaves(), fast_mode=True)


def test_gradgradcheck() -> None:
    assert torch.autograd.gradgradcheck(both(Case((), 1))[0], leaves(), fast_mode=True)


def test_opcheck() -> None:
    # Schema and fake kernels; that derivatives are registered does not depend on the kernels.
    x, w, b = inputs(Case((1, 4, 2, 2, 2), 2))
    _, mean, rstd = norm_act_fwd(x, w, b, 2, 1e-5, 0.2)
    last = (torch.randn_like(x), x, mean, rstd, w, b, 2, 0.2)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(norm_act_fwd, (x, w, b, 2, 1e-5, 0.2), test_utils=checks)
    torch.library.opcheck(norm_act_apply, last[1:], test_utils=checks)
    torch.library.opcheck(norm_act_bwd, last, test_utils=checks)
    torch.library.opcheck(norm_act_bwd_bwd, (x, w, None, *last), test_utils=checks)


def test_layouts(orders, close) -> None:
    x = torch.randn(1, 4, 3, 4, 10, device=DEVICE)
    w, b = torch.randn(2, 4, device=DEVICE)
    layouts = [
        (x.to(memory_format=LAST)[..., ::2], LAST),
        (x[..., ::2], FIRST),
    ]
    ours, stock = both(Case((), 2))
    for values, form in layouts:
        found, expected = orders(ours, [values, w, b]), orders(stock, double([values, w, b]))
        assert found[0][0].is_contiguous(memory_format=form)
        assert found[1][0].is_contiguous(memory_format=form)
        close(list(chain(*found)), list(chain(*expected)), torch.float32)


def test_empty() -> None:
    for shape in ((0, 4, 2, 2, 2), (2, 4, 0, 2, 2)):
        x = torch.zeros(shape, device=DEVICE, requires_grad=True)
        w = torch.ones(4, device=DEVICE, requires_grad=True)
        y = norm_act(x, w, num_groups=2)
        assert y.shape == x.shape
        d_x, d_w = torch.autograd.grad(y.sum(), (x, w), create_graph=True)
        assert d_x.shape == x.shape and torch.equal(d_w, torch.zeros_like(w))


REJECTED = [
    (torch.zeros(1, 2, 3, dtype=torch.float16), "for float32, bfloat16 and float64, got float16"),
    (torch.zeros(1, 4097, 2), "at most 65,535 samples of 4,096 channels"),
]


@pytest.mark.parametrize(("x", "message"), REJECTED, ids=["float16", "channels"])
def test_rejects_what_it_cannot_serve(x: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        norm_act(x.to(DEVICE), num_groups=1)


def test_deterministic(orders) -> None:
    values, ours = inputs(CASES[1]), both(CASES[1])[0]
    once, again = orders(ours, values), orders(ours, values)
    for a, b in zip(chain(*once), chain(*again), strict=True):
        assert torch.equal(a, b)


def test_compile(compiled, loss_with_penalty) -> None:
    ours, stock = both(Case((), 2))
    shapes = ((1, 4, 2, 3, 3), (4,), (4,))
    x, w, b = (torch.randn(s).double().to(DEVICE).requires_grad_() for s in shapes)
    expected = loss_with_penalty("torch.func.grad", stock, x, w, b)
    run = compiled(lambda *t: loss_with_penalty("torch.func.grad", ours, *t), "aot_eager")
    found = run(x, w, b)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, (x, w, b))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (x, w, b)))


def test_splits_do_not_matter_beyond_rounding(monkeypatch) -> None:
    x, w, b = inputs(Case((1, 16, 10, 10, 10), 16, dtype=torch.float64))
    results = []
    for programs in (1, 3, 1000):
        monkeypatch.setattr(tiles, "_PROGRAMS", programs)
        results.append(norm_act_fwd(x, w, b, 16, 1e-5, 0.2))
    assert tiles.tiles(x, 16, 2048).splits == 8
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-13, atol=1e-13)


def test_nan_poisons_its_group_alone() -> None:
    x, w, b = inputs(Case((2, 8, 3, 3, 3), 4))
    x[1, 2, 0, 0, 0] = math.nan
    y = norm_act(x, w, b, num_groups=4).isnan().flatten(2).all(2)
    assert y.nonzero().tolist() == [[1, 2], [1, 3]]
    assert norm_act(x, w, b, num_groups=4).isnan().sum() == 2 * 27


def test_large_mean_does_not_cancel() -> None:
    x = torch.randn(1, 3, 3000, device=DEVICE) + 3000
    expected = reference(x.double(), num_groups=3)
    # x itself carries 3000 * 2^-24 of rounding, which the reference sees as well.
    assert (norm_act(x, num_groups=3) - expected).abs().max() < 2e-3


def test_norm_act_conv_matches_reference(orders, close) -> None:
    # Statistics, application and weight gradient of a chain; the convolution is PyTorch's.
    values = [torch.randn(s, device=DEVICE) for s in ((1, 4, 3, 3, 3), (4,), (4,), (2, 4, 2, 2, 2))]

    def ours(z: Tensor, w: Tensor, b: Tensor, kernel: Tensor) -> Tensor:
        statistics = group_statistics(z, num_groups=4)
        return norm_act_conv(z, statistics, w, b, kernel, num_groups=4, next_groups=0)[0]

    def stock(z: Tensor, w: Tensor, b: Tensor, kernel: Tensor) -> Tensor:
        rest = {"eps": 1e-5, "negative_slope": 0.2, "stride": 1, "padding": 0}
        return reference_conv(z, w, b, kernel, None, num_groups=4, next_groups=2, **rest)[0]

    found, expected = orders(ours, values), orders(stock, double(values))
    close(list(chain(*found)), list(chain(*expected)), torch.float32)


def test_error_budget() -> None:
    draw = torch.Generator().manual_seed(7)
    ratios = []
    for _ in range(8):
        g, k, s = (int(torch.randint(1, n, (), generator=draw)) for n in (6, 5, 400))
        case = Case((1, g * k, s + 1), g)
        x, w, b = (v.cpu() for v in inputs(case._replace(form=FIRST)))
        values = (x.movedim(1, -1).contiguous().movedim(-1, 1), w, b)
        cotangent, mixed = torch.randn(case.x), torch.randn(case.x)

        def second(function: Any, dtype: torch.dtype) -> list[Tensor]:
            leaf, *rest = (v.to(DEVICE, dtype).requires_grad_() for v in values)  # noqa: B023
            y = function(leaf, *rest)
            g = cotangent.to(DEVICE, dtype)  # noqa: B023
            (d_x,) = torch.autograd.grad(y, leaf, g, create_graph=True)
            (dd_x,) = torch.autograd.grad((d_x * mixed.to(DEVICE, dtype)).sum(), leaf)  # noqa: B023
            return [t.detach().double() for t in (y, d_x, dd_x)]

        ours, stock = both(case)
        exact = second(stock, torch.float64)
        found = [second(f, torch.float32) for f in (ours, stock)]
        for own, peer, true in zip(*found, exact, strict=True):
            ratios.append(float((own - true).abs().max() / (peer - true).abs().max()))
    assert math.exp(sum(map(math.log, ratios)) / len(ratios)) <= 1.0
    assert max(ratios) <= 2.5
