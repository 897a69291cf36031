"""How long each span of a step takes, what lies inside it in other spans left out."""

from __future__ import annotations

import time
from collections import defaultdict

import torch

from fastgan.runs.profile.path import Path

__all__ = ["Times", "copy_rate"]

ROUNDS = 5
LARGEST = {"cpu": 2**27, "cuda": 2**30}
"""Bytes of the copied tensor: beyond any cache."""
OF_THE_HOST = "data"
"""Spans of this name are waits of the host; the device may work on."""


class Times(Path):
    """A listener that times spans: on a GPU by events in the stream, so nothing waits.

    Args:
        device: where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._on_gpu = device.type == "cuda"
        # What ends, when by the host, when by the device.
        self._marks: list[tuple[str | None, float, torch.cuda.Event | None]] = []

    def begin(self, name: str) -> None:
        """See `fastgan.spans.Listener`."""
        self._mark(self.here if self._inside else None)
        super().begin(name)

    def end(self, name: str) -> None:
        """See `fastgan.spans.Listener`."""
        self._mark(self.here)
        super().end(name)

    def _mark(self, ended: str | None) -> None:
        event = None
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
        self._marks.append((ended, time.perf_counter(), event))

    def seconds(self) -> dict[str, float]:
        """Seconds by span since the first began; between two steps none. Waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        found: defaultdict[str, float] = defaultdict(float)
        for (_, began, first), (ended, now, last) in zip(
            self._marks, self._marks[1:], strict=False
        ):
            if ended is None:
                continue
            by_host = ended.rpartition("/")[2] == OF_THE_HOST
            if by_host or first is None or last is None:
                found[ended] += now - began
            else:
                found[ended] += first.elapsed_time(last) / 1e3
        return dict(found)


def copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written, of the best of a few copies of a large tensor."""
    size = LARGEST[device.type]
    if device.type == "cuda":
        size = min(size, torch.cuda.mem_get_info(device)[0] // 4)
    # Not zeros: some memories make less of them.
    source = torch.randint(-128, 127, (size,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(ROUNDS + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size / best
