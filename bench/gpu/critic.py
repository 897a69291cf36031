"""The gradient penalty and the critic's step, WGAN-GP, beside stock PyTorch.

bfloat16 autocast over float32 weights. `reference` is what `auto` takes without a proven kernel;
`native` forces the kernels; eager and compiled are critics of torch.nn modules with the same
weights. Results are compared with the reference's before a time is taken; what a provider cannot do
is a row with the reason, and the others go on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import penalty as stock
import torch
from torch import Tensor, nn

from bench.gpu.clock import Clock, Row, Run, Setting, forced
from fastgan import ops
from fastgan.models import build_critic
from fastgan.ops.implementations import dispatch

# Side and batch.
SIZES = [(64, 8), (128, 8)]
CHANNELS = (16, 32, 64, 128)
# Largest difference over the largest value; rounding moves slopes at the kink.
TOLERANCE = {"cuda": 2e-1, "cpu": 2e-2}
LAST = torch.channels_last_3d
WHAT = ("critic step", "penalty")
# In this order over all sizes: what may hold kernels of minutes, or has to be compiled, comes last.
STAGES = ("own", "peer", "compiled")


def rows(setting: Setting) -> Iterator[Row]:
    """Each size, norm, step and provider."""
    channels = (4, 4) if setting.quick else CHANNELS
    clock = Clock(setting.device, setting.quick, budget=1.5)
    for stage in STAGES:
        for size, batch in [(8, 2)] if setting.quick else SIZES:
            for norm in ("instance",) if setting.quick else ("none", "instance"):
                yield from _rows(stage, size, batch, norm, channels, setting, clock)


def _rows(
    stage: str,
    size: int,
    batch: int,
    norm: str,
    channels: tuple[int, ...],
    setting: Setting,
    clock: Clock,
) -> Iterator[Row]:
    torch.manual_seed(0)
    shape = (size,) * 3
    own = build_critic(architecture="dcgan", shape=shape, critic_channels=channels, norm=norm)
    own.to(setting.device)
    x = torch.randn(batch, 1, *shape, device=setting.device)
    providers = list(_providers(own, x, size, norm, channels, setting))
    _, reference, _ = providers[0]
    for what in WHAT:
        named: Row = {"what": what, "size": size, "batch": batch, "norm": norm}
        expected: list[Tensor] | None = None
        for name, build, belongs in providers:
            if belongs != stage:
                continue
            row = named | {"provider": name}
            try:
                if expected is None:
                    expected = [t.detach().clone() for t in reference(what)()]
                run = build(what)
                found = run()
                error = difference(found, expected)
                if not error <= TOLERANCE[setting.device.type]:
                    yield row | {"problem": f"differs from the reference by {error:.2e}"}
                    continue
                yield row | {"ms": clock({name: run})[name], "error": error} | peak(run, setting)
            except Exception as problem:
                yield row | {"problem": f"{type(problem).__name__}: {str(problem)[:300]}"}
            finally:
                # A graph holds its memory until it is gone.
                run = found = None  # type: ignore[assignment]
                gc.collect()


def _providers(
    own: nn.Module,
    x: Tensor,
    size: int,
    norm: str,
    channels: tuple[int, ...],
    setting: Setting,
) -> Iterator[tuple[str, Callable[[str], Run], str]]:
    """Name, what makes a step by it, and its stage; the reference first."""

    def penalty_of_ours(net: nn.Module, x: Tensor) -> Tensor:
        return ops.gradient_penalty(net, x, x).value

    def ours(name: str, what: str) -> Run:
        return forced(mixed(stock.steps(own, penalty_of_ours, x)[what], setting.device), name)

    def peer(form: torch.memory_format, penalty: Callable[..., Tensor], what: str) -> Run:
        net = stock.stock_critic(own, size, norm, False, channels)
        net.to(setting.device, memory_format=form)
        laid = x.to(memory_format=form)
        return mixed(stock.steps(net, penalty, laid)[what], setting.device)

    names = dispatch.implementations("norm_act", x)
    graphed = partial(captured, setting=setting)
    yield "reference", partial(ours, "reference"), "own"
    if "native" in names:
        yield "native", partial(ours, "native"), "own"
        yield "native, CUDA graph", lambda what: graphed(ours("native", what)), "own"
    yield "reference, CUDA graph", lambda what: graphed(ours("reference", what)), "own"
    yield "eager NDHWC", partial(peer, LAST, stock.by_autograd), "peer"
    yield "eager NCDHW", partial(peer, torch.contiguous_format, stock.by_autograd), "peer"
    graph_of_eager = partial(peer, LAST, stock.by_autograd)
    yield "eager NDHWC, CUDA graph", lambda what: graphed(graph_of_eager(what)), "peer"
    # Compiling for the CPU has tests of its own, and takes longer than all the rest.
    compiled = torch.compile(stock.by_func, backend="eager" if setting.quick else "inductor")
    yield "compiled", partial(peer, LAST, compiled), "compiled"
    if "triton" in names and setting.device.type == "cuda":
        yield "triton", partial(ours, "triton"), "compiled"


def mixed(run: Run, device: torch.device) -> Run:
    """`run` under bfloat16 autocast; as it is on a CPU, where that is no faster."""

    def call() -> Any:
        with torch.autocast("cuda", torch.bfloat16):
            return run()

    return call if device.type == "cuda" else run


def captured(run: Run, setting: Setting) -> Run:
    """A CUDA graph of `run`; what it returns is what the replay overwrites. On the CPU, `run`."""
    if setting.device.type == "cpu":
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference of an element over the largest element."""
    pairs = zip(found, expected, strict=True)
    errors = [((f - e).abs().max() / e.abs().max()).float() for f, e in pairs]
    return float(torch.stack([e.cpu() for e in errors]).max())


def peak(run: Run, setting: Setting) -> Row:
    """MiB that a call takes at most beside what was there."""
    if setting.device.type == "cpu":
        return {}
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return {"peak MiB": round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)}
