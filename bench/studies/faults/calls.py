"""Public operators, and the entries of the extension, called with whatever comes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.studies.faults.children import Child
from fastgan import ops
from fastgan.errors import FastganError
from fastgan.ops.implementations import extension

BATCH = 500
SECONDS = 300.0
# What torch, pybind11 and Python raise of arguments that cannot be; all name what was wrong.
EXPECTED = (FastganError, ValueError, TypeError, IndexError, RuntimeError, NotImplementedError)
GIANTS = (2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -1, -(2**63), 0)
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
        work = self._of_extension if of_extension else _of_operators
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
            arguments = [_argument(kind, rng) for kind in kinds]
        entry = getattr(extension.loaded(), name)
        return f"{name}({_told(arguments)})", lambda: entry(*arguments)


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
                _, call = _made(_of_operators, rng)
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
        return _tensor(rng)
    if isinstance(value, float):
        return _argument("float", rng)
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, *GIANTS))
    if isinstance(value, str):
        return _argument("str", rng)
    if not isinstance(value, Tensor):
        changed = list(value)
        if changed:
            changed[rng.randrange(len(changed))] = _number(rng)
        return changed
    way = rng.randrange(8)
    if way == 0 or value.dim() == 0:
        return _tensor(rng)
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


def _argument(kind: str, rng: random.Random) -> object:
    if kind == "sizes":
        return [_number(rng) for _ in range(3)]
    if kind == "int":
        return _number(rng)
    if kind == "float":
        return rng.choice((0.2, 1e-5, 0.0, -1.0, 1e30, float("nan"), float("inf")))
    if kind == "str":
        return rng.choice(("auto", "exact", "", "x" * 99, "\0"))
    if rng.random() < 0.05:
        return rng.choice((None, 3, "x", object(), [1, 2]))
    return None if rng.random() < 0.08 else _tensor(rng)


def _number(rng: random.Random) -> int:
    return rng.choice(GIANTS) if rng.random() < 0.15 else rng.choice((1, 1, 1, 2, 2, 3, 4, 8))


SIZES = (0, 1, 1, 2, 3, 4, 5, 8, 16, 17)
DTYPES = (torch.float32,) * 8 + (
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
)


def _tensor(rng: random.Random) -> Tensor:
    """A tensor of any shape, dtype and layout: strided, expanded, on no device."""
    dims = rng.choice((0, 1, 1, 2, 2, 3, 5, 5, 5, 5))
    sizes = [rng.choice(SIZES) for _ in range(dims)]
    dtype = rng.choice(DTYPES)
    x = torch.zeros(sizes) if rng.random() < 0.2 else torch.randn(sizes)
    if rng.random() < 0.05 and x.numel():
        x.view(-1)[0] = rng.choice((float("nan"), float("inf"), 1e38))
    x = x.to(dtype)
    way = rng.randrange(14)
    if way <= 4 and dims == 5:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    elif way == 5 and dims:
        x = x.transpose(0, dims - 1)
    elif way == 6 and dims and x.shape[0] > 1:
        x = x[::2]
    elif way == 7 and dims:
        x = x[:1].expand(rng.choice(SIZES[1:]), *sizes[1:]) if sizes[0] else x
    elif way == 8:
        x = x.to("meta")
    elif way == 10 and x.is_floating_point():
        x.requires_grad_()
    elif way == 11 and dims == 2:
        x = x.to_sparse()
    return x


def _of_operators(rng: random.Random) -> tuple[str, Callable[[], object]]:
    name = rng.choice((*_CALLS, *_CALLS, "any"))
    if name == "any":
        name = rng.choice([*_CALLS])
        arguments = [_argument("tensor", rng) for _ in range(rng.randint(1, 4))]
        keywords: dict[str, Any] = {}
    else:
        arguments, keywords = _CALLS[name](rng)
    function = getattr(ops, name)

    def call() -> None:
        result = function(*arguments, **keywords)
        leaf = next((a for a in arguments if isinstance(a, Tensor) and a.requires_grad), None)
        if leaf is not None and isinstance(result, Tensor) and result.requires_grad:
            (first,) = torch.autograd.grad(
                result.square().sum(), leaf, create_graph=True, allow_unused=True
            )
            if first is not None and first.requires_grad:
                torch.autograd.grad(first.square().sum(), leaf, allow_unused=True)

    return f"{name}({_told(arguments)} {keywords})"[:400], call


def _near(rng: random.Random, *sizes: int) -> Tensor:
    """A tensor of about these sizes: mostly right, now and then of another."""
    if rng.random() < 0.15:
        return _tensor(rng)
    x = torch.randn([n if rng.random() < 0.97 else rng.choice(SIZES) for n in sizes])
    x = x.to(rng.choice(DTYPES[:10]))
    if len(sizes) == 5 and rng.random() < 0.6:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    return x.requires_grad_(x.is_floating_point() and rng.random() < 0.4)


def _conv(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    c, k = rng.choice((1, 2, 4, 8, 16)), rng.choice((1, 3, 8, 16))
    sizes = [rng.choice(SIZES) for _ in range(3)]
    kernel = [rng.choice((1, 2, 3, 4)) for _ in range(3)]
    keys = {"stride": _number(rng), "padding": _number(rng)}
    x, weight = _near(rng, rng.choice((0, 1, 2)), c, *sizes), _near(rng, k, c, *kernel)
    return [x, weight, None if rng.random() < 0.5 else _near(rng, k)], keys


def _conv_transpose(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    (x, weight, bias), keys = _conv(rng)
    if isinstance(weight, Tensor) and weight.dim() == 5:
        weight = weight.transpose(0, 1)
    return [x, weight, bias], keys | {"output_padding": rng.choice((0, 0, 1, _number(rng)))}


def _norm_act(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    b, c = rng.choice((0, 1, 2)), rng.choice((1, 2, 4, 16))
    x = _near(rng, b, c, *[rng.choice(SIZES) for _ in range(3)])
    weight = rng.choice((None, _near(rng, c), _near(rng, b, c)))
    keys = {"num_groups": rng.choice((1, c, 2, _number(rng))), "negative_slope": 0.2}
    return [x, weight, None if weight is None else _near(rng, c)], keys


def _bias_act(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    c = rng.choice((1, 2, 16))
    x = _near(rng, 2, c, *[rng.choice(SIZES) for _ in range(3)])
    return [x, rng.choice((None, _near(rng, c)))], {"negative_slope": rng.choice((0.0, 0.2, 1.0))}


def _fold(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    return [_near(rng, 1, 8, 4, 4, 4), rng.choice((1, 2, [1, 2, 2], _number(rng)))], {}


def _nearest(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    features = rng.choice((1, 3, 8, 64))
    query, target = (_near(rng, rng.choice(SIZES), features) for _ in range(2))
    return [query, target], {"k": _number(rng)}


def _smooth(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    return [_near(rng, 1, 2, *[rng.choice(SIZES) for _ in range(3)])], {}


_CALLS: dict[str, Callable[[random.Random], tuple[list[Any], dict[str, Any]]]] = {
    "conv3d": _conv,
    "conv_transpose3d": _conv_transpose,
    "norm_act": _norm_act,
    "bias_act": _bias_act,
    "fold": _fold,
    "unfold": _fold,
    "nearest": _nearest,
    "smooth": _smooth,
}


def _told(arguments: list[Any]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, Tensor):
            stride = [*value.stride()] if value.layout == torch.strided else value.layout
            return f"{value.dtype} {[*value.shape]} {stride} {value.device}"
        return repr(value)[:60]

    return ", ".join(map(one, arguments))


def sanitized(minutes: float, place: Path) -> Counter[str]:
    """The same calls of a build that address and undefined-behaviour sanitizers watch.

    Args:
        minutes: how long.
        place: for the build.
    """
    root = Path(__file__).parents[3]
    objects = place / "sanitized"
    objects.mkdir(exist_ok=True)
    target = objects / "_C.so"
    if not target.exists():
        _build(root, target)
    paths = [
        subprocess.check_output(["c++", f"-print-file-name={n}"], text=True).strip()
        for n in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    log = f"log_path={objects / 'report'}"
    environment = os.environ | {
        "LD_PRELOAD": " ".join(paths),
        "ASAN_OPTIONS": f"detect_leaks=0,allocator_may_return_null=1,abort_on_error=1,{log}",
        "UBSAN_OPTIONS": f"print_stacktrace=1,halt_on_error=1,abort_on_error=1,{log}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "bench.studies.faults.watched", str(target), str(minutes)]
    found: Counter[str] = Counter()
    done = subprocess.run(
        command,
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60 * minutes + 300,
    )
    if done.returncode:
        raise RuntimeError(f"the watched calls ended with {done.returncode}: {done.stderr[-800:]}")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found.update(json.loads(line))
    return found


def _build(root: Path, target: Path) -> None:
    """The CPU sources and bindings as setup.py has them, at -O1, for any x86-64, without CUDA."""
    import pybind11

    spec = importlib.util.spec_from_file_location("fastgan_setup", root / "setup.py")
    assert spec is not None and spec.loader is not None
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    setup.CXX_FLAGS[:] = [flag for flag in setup.CXX_FLAGS if flag != "-O3"] + ["-O1", "-g1"]
    cxx = "c++ -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all"
    isas = ["baseline"]
    header = setup.build_info_header("c++", isas, None, [], "sanitized", True)
    (target.parent / "build_info.h").write_text(header)
    includes = [sysconfig.get_path("include"), pybind11.get_include()]
    rules = setup.ninja_file(cxx, isas, True, None, [], includes, target.name)
    (target.parent / "build.ninja").write_text(rules)
    subprocess.run([setup.find_ninja(), "-j1", "-C", str(target.parent)], check=True)
    # The kernels are compiled for one instruction set; whichever is chosen, it is that one.
    listed = subprocess.check_output(["nm", "-u", str(target)], text=True)
    missing = re.findall(r"_ZN7fastgan3cpu(?:4avx2|6avx512)\S+", listed)
    same = [f"-Wl,--defsym={m}={re.sub('4avx2|6avx512', '8baseline', m)}" for m in missing]
    objects = re.findall(rf"^build {target.name}: link (.*)$", rules, re.MULTILINE)[0].split()
    link = [*cxx.split(), "-shared", "-fopenmp", "-Wl,--as-needed", *same, *objects]
    subprocess.run([*link, "-o", target.name], cwd=target.parent, check=True)
