"""A convolution left to PyTorch: dtypes and shapes it gets wrong, and its transposition."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan.ops import conv3d_passes
from tests.ops.test_conv3d import Case, both, double, inputs


@pytest.mark.parametrize(
    ("dtype", "size", "kernel", "stride", "dilation", "safe"),
    [
        (torch.float32, (5, 5, 3), 3, 2, 1, torch.float64),  # one wide, two high
        (torch.bfloat16, (5, 5, 3), 3, 2, 1, torch.float64),
        (torch.float64, (5, 5, 3), 3, 2, 1, torch.float64),
        (torch.float32, (5, 3, 3), 3, 2, 1, torch.float32),  # one wide, one high
        (torch.float32, (5, 5, 3), 3, 1, 1, torch.float32),
        (torch.bfloat16, (8, 8, 8), 3, 1, 2, torch.float32),
        (torch.float32, (8, 8, 8), 3, 1, 2, torch.float32),
        (torch.bfloat16, (2, 8, 8), 3, 1, 1, torch.float32),  # kernel larger than the volume
        (torch.bfloat16, (8, 8, 8), 3, 1, 1, torch.bfloat16),
    ],
)
def test_shapes_the_library_reads_outside_of_are_computed_wider(
    dtype, size, kernel, stride, dilation, safe, monkeypatch
) -> None:
    monkeypatch.setattr(conv3d_passes, "emulated", lambda dtype: False)
    geometry = [size, (kernel,) * 3, (stride,) * 3, (1, 0, 0), (dilation,) * 3]
    assert conv3d_passes._safe_dtype(torch.empty((), dtype=dtype), *geometry) == safe


@pytest.mark.parametrize(
    ("dtype", "capabilities", "safe"),
    [
        (torch.bfloat16, {}, torch.float32),
        (torch.bfloat16, {"avx512_bf16": True}, torch.bfloat16),
        (torch.float16, {"avx512_bf16": True}, torch.float32),
        (torch.float16, {"avx512_fp16": True}, torch.float16),
        (torch.float32, {}, torch.float32),
        (torch.bfloat16, {"architecture": "aarch64"}, torch.bfloat16),
    ],
)
def test_dtypes_the_processor_has_no_instructions_for(
    dtype, capabilities, safe, monkeypatch
) -> None:
    found = {"architecture": "x86_64", **capabilities}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    conv3d_passes.emulated.cache_clear()
    geometry = [(8, 8, 8), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)]
    assert conv3d_passes._safe_dtype(torch.empty((), dtype=dtype), *geometry) == safe
    monkeypatch.undo()
    conv3d_passes.emulated.cache_clear()


# PyTorch's own convolution on the CPU answers these wrongly or crashes; see _safe_dtype.
TREACHEROUS = [
    Case((1, 2, 8, 8, 3), (2, 2, 2, 2, 2), {"stride": (1, 1, 2)}),
    Case((1, 2, 1, 7, 6), (2, 2, 3, 4, 4), {"stride": (2, 1, 3), "padding": (1, 1, 2)}),
    Case((2, 4, 7, 7, 7), (4, 4, 3, 3, 3), {"stride": 2, "dilation": (2, 1, 3)}),
    Case((1, 16, 1, 9, 3), (2, 16, 2, 2, 2), {"padding": (2, 0, 1), "dilation": (3, 1, 1)}),
    Case((1, 1, 7, 9, 3), (16, 1, 4, 4, 4), {"stride": (3, 1, 3), "padding": (2, 2, 1)}),
    Case((1, 16, 2, 2, 2), (32, 16, 4, 2, 4), {"stride": (1, 1, 3), "padding": (1, 1, 2)}),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("treacherous", TREACHEROUS, ids=str)
def test_treacherous_shapes(treacherous, dtype, close, orders) -> None:
    values, (ours, stock) = inputs(treacherous, dtype, torch.device("cpu")), both(treacherous)
    found, expected = orders(ours, values), orders(stock, double(values))
    tolerance = torch.float32 if dtype == torch.float32 else torch.bfloat16
    close(list(chain(*found)), list(chain(*expected)), tolerance)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation", "groups"),
    [
        ((7, 8, 9), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
        ((8, 9, 10), (4, 4, 4), (2, 2, 2), (1, 1, 1), (1, 1, 1), 2),
        ((11, 12, 13), (3, 2, 3), (3, 2, 1), (0, 1, 2), (2, 1, 2), 1),
    ],
)
def test_the_gradient_by_transposition_is_the_input_gradient(
    size, kernel, stride, padding, dilation, groups
) -> None:
    """As on a GPU: the same sums, and no volume that only tells a shape."""
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64)
    y = torch.nn.functional.conv3d(x, weight, None, stride, padding, dilation, groups)
    g = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, g)
    geometry = ([*size], [*stride], [*padding], [*dilation], groups)
    torch.testing.assert_close(conv3d_passes.transposed(g, weight, *geometry), expected)

    called = []

    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    meta = g.to("meta").contiguous(memory_format=torch.channels_last_3d)
    with Calls():
        d_x = conv3d_passes.dgrad(meta, weight.to("meta"), *geometry)
    assert d_x.shape == x.shape and "convolution" in called
    assert not {"empty", "convolution_backward"} & set(called)
