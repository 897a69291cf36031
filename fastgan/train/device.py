"""Where a run computes, and whether it must repeat bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.errors import ConfigError

__all__ = ["Copies", "peak_memory", "repeatable", "resolve"]


def resolve(name: str) -> torch.device:
    """The device of `auto` (a CUDA device if there is one), `cpu`, `cuda` or `cuda:N`.

    A CUDA device becomes the current one: what libraries allocate and launch unasked goes there.

    Raises:
        ConfigError: unknown to torch, or not on this machine.
    """
    count = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if count else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"train.device: must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"train.device: {name!r} was asked for, torch sees {count} CUDA devices")
    if device.type == "cuda":
        device = torch.device(
            "cuda", torch.cuda.current_device() if device.index is None else device.index
        )
        torch.cuda.set_device(device)
    return device


@contextmanager
def repeatable(deterministic: bool, threads: int | None = None) -> Iterator[None]:
    """Set torch's global switches for one run and put them back afterwards.

    Args:
        deterministic: only deterministic algorithms; otherwise cuDNN measures and picks.
        threads: CPU threads; sums split over another number of threads round differently, so a
            resumed deterministic run gets the number it began with. None: unchanged.

    An operation that has no deterministic form raises RuntimeError inside, with its name.
    """
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        cudnn.benchmark,
        cudnn.deterministic,
        torch.get_num_threads(),
    )
    if deterministic:
        # Read by cuBLAS when it first runs in this process.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # Filling every fresh tensor costs a pass over memory and changes no result of sound code.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    cudnn.benchmark, cudnn.deterministic = not deterministic, deterministic
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]  # type: ignore[attr-defined]
        cudnn.benchmark, cudnn.deterministic = before[2:4]
        torch.set_num_threads(before[4])


def peak_memory(device: torch.device) -> int:
    """Bytes at the highest: of tensors on a CUDA device, of the whole process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        # Includes what the parent held when it started this process, so the second choice.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Copies:
    """Copies to a CUDA device beside its kernels, on a stream of their own.

    Args:
        device: a CUDA device.
    """

    class Sent(NamedTuple):
        """Tensors on their way, by name, and the event of their arrival."""

        tensors: dict[str, Tensor]
        arrival: torch.cuda.Event

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, tensors: Mapping[str, Tensor]) -> Sent:
        """Start copies of tensors of the host; from any thread, which waits for none of them."""
        with torch.cuda.stream(self._stream):
            there = {
                name: tensor.pin_memory().to(self._device, non_blocking=True)
                for name, tensor in tensors.items()
            }
            return self.Sent(there, self._stream.record_event())

    def receive(self, sent: Sent) -> dict[str, Tensor]:
        """The tensors, for the present stream: what it is given from now on finds them there."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(sent.arrival)
        for tensor in sent.tensors.values():
            # Its memory belongs to the stream of copies, which would else give it away too early.
            tensor.record_stream(current)
        return sent.tensors
