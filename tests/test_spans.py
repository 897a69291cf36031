"""Spans: who is told of them, and what a profiler of NVIDIA's is shown."""

from __future__ import annotations

import sys

import pytest
import torch

from fastgan import ops, spans


class Ranges:
    """In place of the package nvtx: every range that was entered."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, str, object]] = []

    def annotate(self, text, domain, payload=None):
        return _Range(self, text, domain, payload)


class _Range:
    def __init__(self, ranges, *facts) -> None:
        self.ranges, self.facts = ranges, facts

    def __enter__(self):
        self.ranges.entered.append(self.facts)

    def __exit__(self, *_):
        pass


@pytest.fixture
def nvtx(monkeypatch) -> Ranges:
    ranges = Ranges()
    monkeypatch.setitem(sys.modules, "nvtx", ranges)
    return ranges


class Heard:
    def __init__(self) -> None:
        self.found: list[str] = []

    def begin(self, name: str) -> None:
        self.found.append(f"+{name}")

    def end(self, name: str) -> None:
        self.found.append(f"-{name}")


def test_listeners_are_told_in_order_and_no_longer_than_asked():
    heard = Heard()
    with pytest.raises(KeyError), spans.heard_by(heard), spans.span("a"), spans.span("b"):
        raise KeyError
    with spans.span("a"):
        pass
    assert heard.found == ["+a", "+b", "-b", "-a"]


def test_an_operator_is_a_range_with_shape_and_bytes_where_asked(nvtx):
    x, bias = torch.randn(2, 4, 3, 3, 3), torch.randn(4)
    ops.bias_act(x, bias)
    assert nvtx.entered == []
    with spans.annotated_operators():
        ops.bias_act(x, bias)
    (found,) = nvtx.entered
    assert found == ("bias_act_fwd [2, 4, 3, 3, 3] float32", "fastgan", x.nbytes + bias.nbytes)
    ops.bias_act(x, bias)
    assert len(nvtx.entered) == 1


def test_the_second_derivative_has_its_ranges_too(nvtx):
    x = torch.randn(1, 4, 3, 3, 3, requires_grad=True)
    weight = torch.randn(2, 4, 2, 2, 2, requires_grad=True)
    with spans.annotated_operators():
        (slope,) = torch.autograd.grad(ops.conv3d(x, weight).sum(), x, create_graph=True)
        slope.square().sum().backward()
    names = [text.split(" ")[0] for text, _, _ in nvtx.entered]
    assert names[:2] == ["conv_fprop", "conv_dgrad"] and "conv_wgrad" in names


def test_without_the_package_a_span_is_heard_all_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvtx", None)
    heard = Heard()
    with spans.heard_by(heard), spans.Span("alone"):
        pass
    assert heard.found == ["+alone", "-alone"]
    with spans.annotated_operators():
        assert ops.bias_act(torch.ones(1, 1)).tolist() == [[1.0]]
