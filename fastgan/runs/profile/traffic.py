"""What the operators of a step read, write, copy to a device, and make the host wait for."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastgan.runs.profile.path import Path

__all__ = ["Counts", "Traffic", "is_idle"]

# Operators whose result the host has to see before it goes on.
WAITS = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2"),
    *("unique_dim", "unique_consecutive", "bincount", "repeat_interleave"),
}
# Neither read nor write, although their results are no views by their schema.
IDLE = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"),
    *("promote_types", "_record_function_enter_new", "_record_function_exit"),
}
# Write their first argument and do not read it.
OVERWRITE = {"copy_", "fill_", "zero_"}


@dataclass
class Counts:
    """What ran in one span.

    Attributes:
        calls: operators that are no views; one of fastgan is one, whatever it launches.
        bytes: as if each read its inputs and wrote its outputs once.
        casts: operators among them that only change a dtype.
        waits: operators that make the host wait for the device, by name.
        pinned, pageable: copies from the host to the device; during the latter the host waits.
    """

    calls: int = 0
    bytes: int = 0
    casts: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    pinned: int = 0
    pageable: int = 0


class Traffic(TorchDispatchMode, Path):  # type: ignore[no-untyped-call]
    """A listener that counts operators while it is on."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)  # type: ignore[no-untyped-call]
        Path.__init__(self)
        self.spans: defaultdict[str, Counts] = defaultdict(Counts)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if is_idle(func):
            return result
        name = func.overloadpacket.__name__
        counts = self.spans[self.here]
        counts.calls += 1
        counts.bytes += _moved(name, args, kwargs, result)
        if name in WAITS:
            counts.waits[name] += 1
        if name in ("_to_copy", "copy_"):
            self._note_copy(counts, name, args, kwargs or {}, result)
        return result

    def _note_copy(
        self, counts: Counts, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], to: Tensor
    ) -> None:
        source = args[1] if name == "copy_" else args[0]
        if source.device == to.device:
            counts.casts += source.dtype != to.dtype
        elif source.device.type == "cpu":
            free = source.is_pinned() and bool(
                kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))
            )
            counts.pinned += free
            counts.pageable += not free
        else:
            counts.waits[f"{name} to the host"] += 1


def is_idle(func: Any) -> bool:
    """Whether an operator only looks at memory in another way, or reserves some."""
    views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
    return views or func.overloadpacket.__name__ in IDLE


def _moved(name: str, args: Any, kwargs: Any, result: Any) -> int:
    read = args[1:] if name in OVERWRITE else args
    tensors = [t for t in tree_leaves((read, kwargs, result)) if isinstance(t, Tensor)]
    return sum(_size(t) for t in tensors)


def _size(t: Tensor) -> int:
    """Bytes in memory, fewer than by its shape where it was expanded."""
    size = t.numel() * t.element_size()
    if t.device.type == "meta" or t.layout != torch.strided:
        return size
    return min(size, t.untyped_storage().nbytes())
