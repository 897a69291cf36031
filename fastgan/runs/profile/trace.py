"""A step in the eyes of torch.profiler: a timeline in Chrome's format, and what a GPU was given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path as File
from typing import NamedTuple, Protocol

import torch
from torch.profiler import ProfilerActivity, record_function

from fastgan.runs.profile.path import REST, Path
from fastgan.spans import DOMAIN, heard_by

__all__ = ["Given", "given", "traced"]

LAUNCHES = {
    *("cudaLaunchKernel", "cudaLaunchKernelExC", "cudaLaunchCooperativeKernel"),
    *("cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch"),
}
# Those that torch.profiler itself makes lie outside of all spans.
WAITS = {"cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy"}


class Event(Protocol):
    """The part of an event of torch.profiler that is read."""

    def name(self) -> str: ...

    def start_ns(self) -> int: ...

    def end_ns(self) -> int: ...


class Given(NamedTuple):
    """What the CUDA runtime was asked for, by span."""

    launches: Counter[str]
    waits: Counter[str]


class Annotations(Path):
    """A listener that puts spans into the timeline."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[AbstractContextManager[object]] = []

    def begin(self, name: str) -> None:
        """See `fastgan.spans.Listener`."""
        super().begin(name)
        self._open.append(record_function(f"{DOMAIN}:{self.here}"))
        self._open[-1].__enter__()

    def end(self, name: str) -> None:
        """See `fastgan.spans.Listener`."""
        self._open.pop().__exit__(None, None, None)
        super().end(name)


def traced(work: Callable[[], object], device: torch.device, out: File) -> Given | None:
    """Run `work`, write its timeline to `out`; of a GPU, say what it was given."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with (
        torch.profiler.profile(activities=activities, record_shapes=True) as found,
        heard_by(Annotations()),
    ):
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    found.export_chrome_trace(str(out))
    if device.type != "cuda":
        return None
    assert found.profiler is not None
    return given(found.profiler.kineto_results.events())


def given(events: Iterable[Event]) -> Given:
    """Launches and waits by the innermost span that each began in, in whichever thread."""
    events = list(events)
    prefix = f"{DOMAIN}:"
    spans = sorted(
        (e.start_ns(), e.end_ns(), e.name().removeprefix(prefix))
        for e in events
        if e.name().startswith(prefix)
    )
    found = Given(Counter(), Counter())
    for kind, names in (("launches", LAUNCHES), ("waits", WAITS)):
        for event in events:
            if event.name() in names:
                getattr(found, kind)[_innermost(spans, event.start_ns())] += 1
    return found


def _innermost(spans: list[tuple[int, int, str]], at: int) -> str:
    """Of the spans around a moment the one that began last."""
    around = [name for start, end, name in spans if start <= at < end]
    return around[-1] if around else REST
