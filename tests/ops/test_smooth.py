from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv3d, pad

from fastgan.errors import ConfigError
from fastgan.ops import implementation, smooth
from fastgan.ops.smooth import smooth_fwd
from fastgan.reference.smooth import smooth as reference

SHAPES = [(1, 1, 1, 1, 1), (2, 1, 5, 4, 17), (1, 3, 2, 7, 3), (2, 5, 1, 3, 2), (1, 2, 40, 33, 31)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def ours(x: Tensor) -> Tensor:
    # Squared, so that there is a second derivative to compare.
    return smooth(x).square()


def stock(x: Tensor) -> Tensor:
    return reference(x).square()


def volume(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return (torch.randint(-31, 31, shape) / 16).to(device, dtype)


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_matches_reference(shape, dtype, device, close) -> None:
    x = volume(shape, dtype, device)
    close([smooth(x)], [reference(x.double().cpu())], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_backward_matches_reference(shape, dtype, device, orders, close) -> None:
    x = volume(shape, dtype, device)
    close(orders(ours, [x])[1], orders(stock, [x.double().cpu()])[1], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_second_order_matches_reference(shape, dtype, device, orders, close) -> None:
    x = volume(shape, dtype, device)
    close(orders(ours, [x])[2], orders(stock, [x.double().cpu()])[2], dtype)


def test_is_a_convolution() -> None:
    x = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64)
    line = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    kernel = torch.einsum("i,j,k->ijk", line, line, line).expand(3, 1, 3, 3, 3)
    expected = conv3d(pad(x, (1,) * 6, mode="replicate"), kernel, groups=3)
    torch.testing.assert_close(smooth(x), expected)
    one_voxel = torch.randn(1, 1, 1, 1, 1)
    assert torch.equal(smooth(one_voxel), one_voxel)


def test_removes_what_alternates_and_keeps_what_is_linear() -> None:
    d, h, w = torch.meshgrid(*[torch.arange(8.0)] * 3, indexing="ij")
    inner = (..., slice(1, -1), slice(1, -1), slice(1, -1))
    board, plane = ((-1.0) ** (d + h + w))[None, None], (2 * d - h + w)[None, None]
    assert smooth(board)[inner].abs().max() == 0.0
    torch.testing.assert_close(smooth(plane)[inner], plane[inner])


def leaf() -> Tensor:
    return torch.randn(1, 2, 3, 2, 3, dtype=torch.float64, requires_grad=True)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(ours, leaf())


def test_gradgradcheck() -> None:
    assert torch.autograd.gradgradcheck(ours, leaf())


def test_opcheck(device) -> None:
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        x = torch.randn(2, 3, 4, 2, 6, device=device).to(memory_format=layout)
        torch.library.opcheck(smooth_fwd, (x.requires_grad_(),))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype, device, orders, close) -> None:
    x = volume((2, 4, 4, 6, 4), dtype, device)
    last = torch.channels_last_3d
    for values, form in (
        (x, torch.contiguous_format),
        (x.to(memory_format=last), last),
        (x[:, :, ::2], torch.contiguous_format),
        (x.to(memory_format=last)[..., ::2], last),
        (x[:1].expand(3, -1, -1, -1, -1), torch.contiguous_format),
    ):
        assert smooth(values).is_contiguous(memory_format=form)
        found, expected = orders(ours, [values]), orders(stock, [values.double().cpu()])
        close(list(chain(*found)), list(chain(*expected)), dtype)


def test_implementations_and_threads_agree_to_the_bit(shape) -> None:
    x = torch.randn(shape)
    before = torch.get_num_threads()
    found = []
    for name, threads in (("native", 1), ("native", 3), ("reference", 1)):
        torch.set_num_threads(threads)
        with implementation(name):
            found.append(smooth(x))
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_empty(device) -> None:
    x = torch.zeros(0, 2, 4, 4, 2, device=device, requires_grad=True)
    y = smooth(x)
    assert y.shape == x.shape and torch.autograd.grad(y.sum(), x)[0].shape == x.shape


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 4, 4, 2), r"smooth: x must be \[B, C, D, H, W\], got \[1, 4, 4, 2\]"),
        (torch.zeros(1, 1, 2, 2, 2).int(), r"smooth: x must be float16"),
    ],
)
def test_rejects_bad_arguments(x, message) -> None:
    with pytest.raises(ConfigError, match=message):
        smooth(x)


def test_deterministic(device, orders) -> None:
    x = volume(SHAPES[1], torch.float32, device)
    once, again = orders(ours, [x]), orders(ours, [x])
    assert all(torch.equal(a, b) for a, b in zip(chain(*once), chain(*again), strict=True))


@pytest.mark.parametrize("gradient", ["autograd.grad", "torch.func.grad"])
def test_compile(gradient, compiled, loss_with_penalty) -> None:
    x = leaf()
    expected = loss_with_penalty(gradient, stock, x)
    found = compiled(lambda t: loss_with_penalty(gradient, ours, t), "aot_eager")(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x), torch.autograd.grad(expected, x))
