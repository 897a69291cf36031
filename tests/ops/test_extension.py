"""The compiled extension itself: how it sees tensors, and what it says of its build."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cpu import norm_act

EPS, SLOPE = 1e-3, 0.2


def test_extension_is_loaded() -> None:
    assert extension.reason() is None


class Attributes:
    """A tensor without the exchange interface, as an older torch has them."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self.shape, self.dtype, self.device = tensor.shape, tensor.dtype, tensor.device

    def data_ptr(self) -> int:
        return self._tensor.data_ptr()

    def stride(self) -> tuple[int, ...]:
        return self._tensor.stride()


def test_view_by_attributes_is_the_same() -> None:
    x = torch.randn(2, 4, 3, 5, 7).contiguous(memory_format=torch.channels_last_3d)
    wanted, mean, rstd = norm_act.norm_act_fwd(x, None, None, 2, EPS, SLOPE)
    outputs = [torch.full_like(t, torch.nan) for t in (wanted, mean, rstd)]
    views = [Attributes(t) for t in outputs]
    extension._C.norm_act_fwd(Attributes(x), None, None, 2, EPS, SLOPE, 1, *views)
    assert all(torch.equal(a, b) for a, b in zip(outputs, (wanted, mean, rstd), strict=True))
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor"):
        extension._C.norm_act_fwd([1.0], None, None, 2, EPS, SLOPE, 1, *views)


def test_supports_gives_reasons() -> None:
    x = torch.ones(2, 4, 3, 3, 3)
    assert norm_act.supports(x) is None
    assert "got float16" in str(norm_act.supports(x.half()))
    assert "got meta" in str(norm_act.supports(x.to("meta")))


def test_build_info_and_devices() -> None:
    info = extension.build_info()
    assert info["isa"][0] == "baseline" and set(extension._C.isa_levels()) <= set(info["isa"])
    assert (info["cuda"] is None) == (info["cuda_reason"] is not None)
    assert (info["cuda"] is None) == (info["cuda_sources"] is None)
    devices = extension.cuda_devices()
    assert (devices["error"] is None) or devices["devices"] == []
    with pytest.raises(ValueError, match="set_isa: level must be"):
        extension._C.set_isa("sse9")
