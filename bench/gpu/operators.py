"""Every kernel by itself: right beside the reference, and its time over that of its ideal bytes.

Ideal: each volume that a pass must read or write moves once, at the rate that a copy reaches here.
A pass that differs from the reference has no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.gpu import conv3d
from bench.gpu.clock import Clock, Row, Setting, relative_error
from fastgan.ops.implementations import dispatch

SHAPES = [(8, 64, 64, 64, 64), (2, 16, 256, 256, 256)]
QUICK = [(1, 8, 6, 6, 6)]
# Targets and features of the search, with 8 queries: whole volumes of 128^3.
ROWS, QUICK_ROWS = [(256, 128**3)], [(12, 64)]
DTYPES = (torch.bfloat16, torch.float32)
FORMS = {"NDHWC": torch.channels_last_3d, "NCDHW": torch.contiguous_format}
PARTS = ("norm_act", "bias_act", "slope_penalty", "nearest", "conv3d")
# |found - reference| / |reference|: of a volume, some voxels lie on the other side of the kink.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.int16: 1e-6}
EPS, SLOPE = 1e-5, 0.2


class Pass(NamedTuple):
    """A call of a module's kernels, and the bytes that it must move."""

    name: str
    run: Callable[[Any], Sequence[Tensor | None]]  # given the module
    ideal: int


def rows(setting: Setting) -> Iterator[Row]:
    """One a shape, dtype, layout, pass and implementation."""
    clock = Clock(setting.device, setting.quick)
    bandwidth = clock.copy_bandwidth()
    yield {"op": "copy", "pass": "", "GB/s": bandwidth / 1e9}
    for shape in QUICK if setting.quick else SHAPES:
        for op in PARTS[:3]:
            for dtype in DTYPES:
                for form in FORMS:
                    yield from _rows(op, shape, dtype, form, setting, clock, bandwidth)
    if "nearest" in PARTS and setting.only != "native":
        for dtype in (torch.int16, torch.float32):
            for shape in QUICK_ROWS if setting.quick else ROWS:
                yield from _rows("nearest", shape, dtype, "NCDHW", setting, clock, bandwidth)
    if "conv3d" in PARTS and setting.only != "triton":
        yield from conv3d.rows(clock, bandwidth, setting)


def _rows(
    op: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    form: str,
    setting: Setting,
    clock: Clock,
    bandwidth: float,
) -> Iterator[Row]:
    probe = torch.empty(1, 1, 2, 2, 2, device=setting.device, dtype=dtype)
    names = [n for n in dispatch.implementations(op, probe) if setting.only in (None, n)]
    if setting.device.type == "cpu":
        names = [name for name in names if name != "triton"]  # an interpreter
    if not names:
        return
    oracle = _module(op, "reference", probe)
    for a_pass in _passes(op, shape, dtype, FORMS[form], setting.device, oracle):
        named: Row = {"op": op, "pass": a_pass.name, "shape": list(shape), "layout": form}
        named["dtype"] = str(dtype).removeprefix("torch.")
        expected: list[Tensor] | None = None
        for name in names:
            row = named | {"implementation": name}
            run = partial(a_pass.run, _module(op, name, probe))
            try:
                if expected is None:
                    expected = [t for t in a_pass.run(oracle) if t is not None]
                error = relative_error([t for t in run() if t is not None], expected)
                if not error <= TOLERANCE[dtype]:
                    yield row | {"problem": f"differs from the reference by {error:.2e}"}
                    continue
                ms = clock({name: run})[name]
            except Exception as problem:
                yield row | {"problem": f"{type(problem).__name__}: {str(problem)[:300]}"}
                continue
            over = 1e-3 * ms * bandwidth / a_pass.ideal
            yield row | {"ms": ms, "ideal bytes": a_pass.ideal, "over ideal": over, "error": error}


def _module(op: str, name: str, x: Tensor) -> Any:
    with dispatch.implementation(name):
        return dispatch.module(op, x)


def _passes(
    op: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    form: torch.memory_format,
    device: torch.device,
    oracle: Any,
) -> Iterator[Pass]:
    """The passes of an operator on random volumes of one shape."""
    draw = torch.Generator(device).manual_seed(0)
    if op == "nearest":
        rows = torch.randint(-1000, 1000, (shape[0] + 8, shape[1]), generator=draw, device=device)
        query, target = rows.to(dtype).split([8, shape[0]])

        def search(module: Any) -> list[Tensor]:
            key, index, *_ = module.nearest(query, target, 3, None)
            return [module.distance_of(key, dtype).double(), index.double()]

        yield Pass("search", search, query.nbytes + target.nbytes)
        return

    def volume() -> Tensor:
        x = torch.empty(shape, dtype=dtype, device=device, memory_format=form)
        return x.normal_(generator=draw)

    x, channels = volume(), shape[1]
    once = x.nbytes
    weight, bias = (
        torch.randn(channels, device=device, generator=draw).to(dtype) for _ in range(2)
    )
    if op == "norm_act":
        settings = (channels, EPS, SLOPE)
        yield Pass("fwd", lambda m: m.norm_act_fwd(x, weight, bias, *settings), 2 * once)
        g = volume()
        mean, rstd = oracle.norm_act_statistics(x, channels, EPS)
        saved = (g, x, mean, rstd, weight, bias, channels, SLOPE)
        yield Pass("bwd", lambda m: m.norm_act_bwd(*saved), 3 * once)
        v = volume()
        rest = (v, None, None, *saved)
        yield Pass("bwd_bwd", lambda m: m.norm_act_bwd_bwd(*rest), 5 * once)
    elif op == "bias_act":
        bits = x.numel() // 8
        yield Pass("fwd", lambda m: m.bias_act_fwd(x, bias, SLOPE)[:1], 2 * once + bits)
        g = volume()
        made: dict[Any, Tensor] = {}

        def bwd(module: Any) -> list[Tensor]:
            if module not in made:  # each keeps its sign bits in an order of its own
                made[module] = module.bias_act_fwd(x, bias, SLOPE)[1]
            return [module.bias_act_bwd(g, made[module], SLOPE)]

        yield Pass("bwd", bwd, 2 * once + bits)
    else:
        yield Pass("fwd", lambda m: m.slope_penalty_fwd(x, 1.0, False), once)
        norms, one = oracle.slope_penalty_fwd(x, 1.0, False)[1], torch.ones((), device=device)
        one = one.to(norms.dtype)
        yield Pass("bwd", lambda m: [m.slope_penalty_bwd(one, x, norms, 1.0, False)], 2 * once)
        y, share = volume(), torch.rand(shape[0], device=device, generator=draw)
        yield Pass("mix", lambda m: [m.slope_penalty_mix(x, y, share)], 3 * once)
