"""A stand-in for CUDA graphs where no GPU is: a tape of operators over the memory they had.

Like a graph it computes nothing while it records, knows no Python when it runs, and has every
number of the host as it was when it recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastgan.runs.profile.traffic import WAITS


class _Recorder(TorchDispatchMode):
    def __init__(self, tape: list[tuple[Any, Any, Any, Any]]) -> None:
        super().__init__()
        self._tape = tape

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._tape.append((func, args, kwargs, result))
        return result


class Tape:
    """A graph over tensors of the CPU.

    Args:
        state: every tensor that the work may write, to be as before when it has been recorded.
    """

    made = 0
    runs = 0

    def __init__(self, state: Callable[[], Iterable[Tensor]]) -> None:
        self._state = state
        self._tape: list[tuple[Any, Any, Any, Any]] = []
        type(self).made += 1

    def record(self, work: Callable[[], None]) -> None:
        """See `fastgan.train.step_graph.Graph`."""
        live = list(self._state())
        before = [tensor.detach().clone() for tensor in live]
        with _Recorder(self._tape):
            work()
        with torch.no_grad():
            for tensor, value in zip(live, before, strict=True):
                tensor.copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        """See `fastgan.train.step_graph.Graph`."""
        type(self).runs += 1
        for func, args, kwargs, result in self._tape:
            returns = func._schema.returns
            if any(r.alias_info and not r.alias_info.is_write for r in returns):
                continue  # a view sees what its memory holds
            again = func(*args, **kwargs)
            if any(r.alias_info for r in returns):
                continue  # written in place
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.numel():
                    old.copy_(new)
