"""Public operators, and the entries of the extension, called with whatever comes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.studies.faults.children import Child
from bench.studies.faults.operator_calls import (
    DTYPES,
    GIANTS,
    any_number,
    any_tensor,
    argument,
    of_operators,
    told,
)
from fastgan import ops
from fastgan.errors import FastganError
from fastgan.ops.implementations import extension

BATCH = 500
SECONDS = 300.0
# What torch, pybind11 and Python raise of arguments that cannot be; all name what was wrong.
EXPECTED = (FastganError, ValueError, TypeError, IndexError, RuntimeError, NotImplementedError)
# Of another device or process state; these three are no entries for data.
SKIPPED = {"set_isa", "cuda_devices", "cuda_versions", "isa", "isa_levels"}


class Calls:
    """Random calls, a batch in a process of its own: what ends the process is a crash."""

    def __init__(self) -> None:
        self.entries = _entries() if extension.reason() is None else {}
        self.sound = _sound_calls() if self.entries else {}

    def batch(self, number: int) -> Counter[str]:
        """`BATCH` calls: of the public operators, or of the extension where it is."""
        of_extension = bool(self.entries) and number % 2 == 1
        work = self._of_extension if of_extension else of_operators
        with tempfile.TemporaryFile() as log:
            child = Child(lambda: json.dumps(_many(work, number, log.fileno())))
            ended = child.outcome(SECONDS)
            last = os.pread(log.fileno(), 400, 0).decode(errors="replace").strip("\0 ")
        kind = "calls of _C" if of_extension else "calls of operators"
        found: Counter[str] = Counter({kind: BATCH, "calls": BATCH})
        if ended.kind == "done":
            found.update(json.loads(ended.text))
            return found
        found["hangs" if ended.kind == "hang" else "crashes"] += 1
        found[f"NOTE {kind} {number}: {ended.text[:200]} in {last}"] += 1
        return found

    def _of_extension(self, rng: random.Random) -> tuple[str, Callable[[], object]]:
        name = rng.choice([*self.entries])
        kinds = self.entries[name]
        if name in self.sound and rng.random() < 0.9:
            # Nearly right goes further in than nonsense does.
            share = rng.choice((0.0, 0.1, 0.2, 0.4))
            arguments = [
                _near_by(value, rng) if rng.random() < share else _copy(value)
                for value in rng.choice(self.sound[name])
            ]
            if share == 0.0 and rng.random() < 0.3:
                _shrink(arguments, rng)
        else:
            arguments = [argument(kind, rng) for kind in kinds]
        entry = getattr(extension.loaded(), name)
        return f"{name}({told(arguments)})", lambda: entry(*arguments)


def _many(work: Callable[..., Any], number: int, log: int) -> dict[str, int]:
    rng = random.Random(number)
    torch.manual_seed(number)
    found: Counter[str] = Counter()
    for _ in range(BATCH):
        told, call = _made(work, rng)
        os.pwrite(log, told[:400].encode(errors="replace").ljust(400), 0)
        try:
            call()
            found["calls answered"] += 1
        except EXPECTED:
            found["calls refused"] += 1
        except MemoryError:
            found["calls refused"] += 1
        except Exception as error:
            found["untyped calls"] += 1
            found[f"NOTE {told[:120]}: {type(error).__name__}: {error}"[:200]] += 1
    return dict(found)


def _made(work: Callable[..., Any], rng: random.Random) -> tuple[str, Callable[[], object]]:
    """The next call whose arguments torch lets be made: a freed tensor has no transpose."""
    while True:
        with contextlib.suppress(RuntimeError):
            made: tuple[str, Callable[[], object]] = work(rng)
            return made


def _entries() -> dict[str, list[str]]:
    """Entry of the extension -> the kinds of its arguments, from what pybind11 says of them."""
    module, found = extension.loaded(), {}
    for name in dir(module):
        entry = getattr(module, name)
        text = (getattr(entry, "__doc__", None) or "").split("\n")[0]
        if not callable(entry) or not text.startswith(name) or name in SKIPPED:
            continue
        inside = text[text.index("(") + 1 : text.rindex(")")]
        kinds = re.findall(r"arg\d+: (.+?)(?=, arg\d+:|$)", inside)
        found[name] = [
            "sizes"
            if "Sequence" in kind
            else "float"
            if "Float" in kind
            else "int"
            if "Int" in kind
            else "str"
            if kind == "str"
            else "tensor"
            for kind in kinds
        ]
    return found


class _Recorder:
    """Stands for the extension and remembers with what it was called."""

    def __init__(self, module: Any) -> None:
        self.module, self.calls = module, {}

    def __getattr__(self, name: str) -> Any:
        entry = getattr(self.module, name)
        if not callable(entry):
            return entry

        def call(*arguments: Any) -> Any:
            self.calls.setdefault(name, []).append([_copy(a) for a in arguments])
            return entry(*arguments)

        return call


def _sound_calls() -> dict[str, list[list[Any]]]:
    """With what the operators themselves call the entries of the extension."""
    recorder, before, rng = _Recorder(extension.loaded()), extension._C, random.Random(0)
    extension._C = recorder
    try:
        with ops.implementation("auto"):
            for number in range(1500):
                torch.manual_seed(number)
                _, call = _made(of_operators, rng)
                with contextlib.suppress(Exception):
                    call()
    finally:
        extension._C = before
    return {name: calls[:40] for name, calls in recorder.calls.items()}


def _copy(value: Any) -> Any:
    """The same, in memory of its own and of the same strides."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    out = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    return out.copy_(value) if value.numel() else out


def _shrink(arguments: list[Any], rng: random.Random) -> None:
    """Take away the storage of one of them, or its end: PyTorch's own operators crash on such."""
    full = [a for a in arguments if isinstance(a, Tensor) and a.numel()]
    if full:
        chosen = rng.choice(full)
        left = rng.choice((0, 0, chosen.numel() // 2 * chosen.element_size()))
        chosen.untyped_storage().resize_(left)


def _near_by(value: Any, rng: random.Random) -> Any:
    """Another one that differs in one respect."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Tensor | list | tuple):
        return any_tensor(rng)
    if isinstance(value, float):
        return argument("float", rng)
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, *GIANTS))
    if isinstance(value, str):
        return argument("str", rng)
    if not isinstance(value, Tensor):
        changed = list(value)
        if changed:
            changed[rng.randrange(len(changed))] = any_number(rng)
        return changed
    way = rng.randrange(8)
    if way == 0 or value.dim() == 0:
        return any_tensor(rng)
    if way == 1:
        return value.to(rng.choice(DTYPES))
    if way == 2:
        return value.transpose(0, value.dim() - 1)
    if way == 3:
        return value.contiguous()
    if way == 4:
        return None
    sizes = [*value.shape]
    i = rng.randrange(len(sizes))
    sizes[i] = max(0, rng.choice((sizes[i] - 1, sizes[i] + 1, 0, sizes[i] * 2)))
    if way == 5:
        del sizes[i]
    out = torch.randn(sizes).to(value.dtype)
    last = value.dim() == 5 and value.is_contiguous(memory_format=torch.channels_last_3d)
    return out.contiguous(memory_format=torch.channels_last_3d) if last and out.dim() == 5 else out
