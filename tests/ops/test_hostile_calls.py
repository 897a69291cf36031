"""Entries of the extension called with what no caller of ours gives: a ValueError, never a crash.

Each case runs in a process of its own, for a crash would end the tests.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastgan.ops.implementations import extension

pytestmark = pytest.mark.skipif(extension.reason() is not None, reason=str(extension.reason()))

BEGIN = """
import torch
from fastgan.ops.implementations.extension import loaded
C = loaded()
BIG = 2**63 - 1
last = torch.channels_last_3d
def t(*sizes): return torch.ones(*sizes)
def l(*sizes): return torch.ones(*sizes).to(memory_format=last)
def freed(*sizes, skip=0):
    base = torch.ones(skip + torch.Size(sizes).numel())
    view = base[skip:].view(*sizes)
    base.untyped_storage().resize_(0)
    return view
def cut(tensor):
    tensor.untyped_storage().resize_(tensor.untyped_storage().nbytes() - 1)
    return tensor
class Fake:
    def __init__(self, tensor, shape, stride=None):
        self.tensor, self.shape = tensor, shape
        self.strides = tensor.stride() if stride is None else stride
        self.dtype, self.device = tensor.dtype, tensor.device
    def data_ptr(self): return self.tensor.data_ptr()
    def stride(self): return self.strides
X, W, Y = t(1, 1, 5, 5, 5), t(16, 1, 3, 3, 3), l(1, 16, 5, 5, 5)
P, V, Q = l(1, 16, 5, 5, 5), l(16, 16, 3, 3, 3), l(1, 16, 5, 5, 5)
one = (1, 1, 1)
"""
CONV = [
    f"C.conv_{kind}({arguments}, {stride}, {padding}{', one' if 'packed' in kind else ''}, 1)"
    for kind, arguments in (
        ("single_fprop", "X, W, None, Y"),
        ("single_dgrad", "Y, W, X"),
        ("single_wgrad", "Y, X, W"),
        ("packed_fprop", "P, V, None, Q"),
        ("packed_dgrad", "Q, V, P"),
        ("packed_wgrad", "Q, P, V"),
    )
    for stride, padding in (
        ("one", "(BIG, 1, 1)"),
        ("one", "(1, 1, BIG)"),
        ("(BIG, 1, 1)", "one"),
        ("(1, 1, 2**62)", "(1, 1, 2**62)"),
        ("(2**28,) * 3", "(2**28,) * 3"),
    )
]
CALLS = [
    *CONV,
    "C.conv_packed_fprop(P, V, None, Q, one, one, (BIG, 1, 1), 1)",
    "C.conv_packed_fprop(P, V, None, Q, one, (2**62, 1, 1), (2**62, 1, 1), 1)",
    "C.conv_packed_wgrad(l(1, 16, 1, 1, 1), P, l(16, 16, 1, 1, 1), (2**28,) * 3, (2**27,) * 3,"
    " one, 1)",
    "C.conv_single_fprop(freed(1, 1, 5, 5, 5), W, None, Y, one, one, 1)",
    "C.conv_single_fprop(freed(1, 1, 5, 5, 5, skip=9), W, None, Y, one, one, 1)",
    "C.conv_single_fprop(cut(t(1, 1, 5, 5, 5)), W, None, Y, one, one, 1)",
    "C.conv_single_fprop(X, W, None, cut(l(1, 16, 5, 5, 5)), one, one, 1)",
    "C.smooth(t(1, 1, 4, 4, 4), 1, cut(t(1, 1, 4, 4, 4)))",
    "C.norm_act_fwd(cut(t(2, 16, 3)), None, None, 4, 1e-3, 0.2, 1, t(2, 16, 3), t(2, 4), t(2, 4))",
    "C.bias_act_fwd(freed(2, 16, 3), None, 0.2, 1, t(2, 16, 3), torch.zeros(12).byte())",
    "C.norm_act_fwd(t(2, 16, 3), freed(16), None, 4, 1e-3, 0.2, 1, t(2, 16, 3), t(2, 4), t(2, 4))",
    "C.smooth(freed(1, 1, 4, 4, 4), 1, t(1, 1, 4, 4, 4))",
    "C.fold(l(1, 1, 4, 4, 4), (BIG, 2, 2), 1, l(1, 8, 2, 2, 2))",
    "C.fold(l(1, 1, 4, 4, 4), (2**62, 2, 2), 1, l(1, 8, 4, 2, 2))",
    "C.nearest(freed(4, 8), t(4, 8), 1, None, None, 1, 'auto', t(4, 1).double(),"
    " t(4, 1).long(), t(4).byte(), t(4).byte())",
    "C.nearest_pyramid_width(BIG, BIG, 1, 1)",
    "C.nearest_pyramid_width(2**32, 2**32, 1, 1)",
    "C.nearest_pyramid_build(t(1, 8), 2**62, 4, 1, 2, 1, t(1, 8), t(1).double(), t(1).byte())",
    "C.smooth(Fake(t(8), (2**62, 4, 1, 1, 1), (4, 1, 1, 1, 1)), 1, t(8))",
    "C.smooth(Fake(t(8), (-8, 1, 1, 1, 1), (1, 1, 1, 1, 1)), 1, t(8))",
    "C.smooth(Fake(t(8), (8, 1, 1, 1, 1), (1,)), 1, t(8))",
]
GOOD = "C.conv_single_fprop(X, W, None, Y, one, one, {threads}); print(Y.sum().item())"


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("part", range(3))
def test_refused_and_nothing_crashes(part):
    calls = CALLS[part::3]
    tried = "\n".join(
        f"try:\n    {call}\nexcept (ValueError, TypeError): print('refused')\nelse: print({call!r})"
        for call in calls
    )
    done = _run(tried)
    assert done.returncode == 0, done.stderr[-600:]
    assert [line for line in done.stdout.splitlines() if line != "refused"] == []
    assert done.stdout.count("refused") == len(calls)


def test_any_number_of_threads_computes_the_same():
    code = "\n".join(GOOD.format(threads=n) for n in (1, 0, -5, 2**31 - 1))
    done = _run(code)
    assert done.returncode == 0, done.stderr[-600:]
    assert len(done.stdout.split()) == 4 and len({*done.stdout.split()}) == 1


def test_empty_tensors_are_no_giants():
    done = _run("x = t(0, 16, 3); C.bias_act_fwd(x, None, 0.2, 1, x, torch.zeros(0).byte())")
    assert done.returncode == 0, done.stderr[-600:]
