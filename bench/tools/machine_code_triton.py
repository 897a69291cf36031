"""What Triton makes of each kernel for an H100, on a machine without a GPU.

    python bench/tools/machine_code_triton.py [--json] [use ...]       # such as "bfloat16 NDHWC"

The launchers run on tensors without data; each launch they make is compiled with exactly its
arguments instead of being started. Registers, spills and shared memory are ptxas's, the rest is
read off the machine code. A goal is what full bandwidth asks for and does not move; a budget is
what the tests hold today.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

sys.path.insert(0, str(Path(__file__).parent))
from loops import WIDE, hot_accesses
from reads_in_flight import GOAL, in_flight

CAPABILITY = 90
# (goal, budget) of registers, of a kernel or of one in a use. A multiprocessor has 65,536, and
# about 36 KB of reads in flight fill its share of the memory's bandwidth: of norm_act at 64
# registers, where eight programs of 128 threads run at once.
REGISTERS: dict[str | tuple[str, str], tuple[int, int]] = {
    "norm_act_statistics_kernel": (64, 80),
    "norm_act_apply_kernel": (64, 56),
    "norm_act_bwd_sums_kernel": (64, 80),
    "norm_act_bwd_apply_kernel": (64, 72),
    "norm_act_bwd_bwd_sums_kernel": (64, 128),
    "norm_act_bwd_bwd_apply_kernel": (64, 80),
    # One program a sample and eight channels: nothing there to be in flight.
    "norm_act_statistics_merge_kernel": (255, 160),
    "norm_act_bwd_merge_kernel": (255, 160),
    "norm_act_bwd_bwd_merge_kernel": (255, 160),
    # A step reads 512 features of 4 queries and 4 targets, of int16 2: 16, 8 and 6 KB, so that
    # three, five and six programs have to run at once.
    ("nearest_all_pairs_kernel", "float32 rows"): (168, 136),
    ("nearest_all_pairs_kernel", "bfloat16 rows"): (96, 136),
    ("nearest_all_pairs_kernel", "int16 rows"): (80, 120),
    # Sums of 64 channels and three distances take 96 alone; of these no more fit.
    "conv3d_gather_kernel": (255, 255),
    "conv3d_statistics_merge_kernel": (255, 160),
    # As of the gather: sums of 64 x 64 channels and four taps, of eight warps, take 128.
    "conv3d_wgrad_kernel": (255, 255),
    "conv3d_wgrad_merge_kernel": (255, 160),
    "nearest_chosen_pairs_kernel": (64, 48),
    "nearest_merge_kernel": (64, 40),
}
# A lane's share of a step is 8 bytes there.
NARROW = {("nearest_chosen_pairs_kernel", "bfloat16 rows")}
SHAPE = (2, 32, 64, 64, 64)
# Bytes that a block of an H100 may have.
SHARED = 232448
# Of a row of the nearest-neighbour search.
VOXELS = 128**3


class Row(NamedTuple):
    """One kernel, compiled for one use."""

    kernel: str
    use: str
    registers: int
    spills: int  # bytes of local memory
    shared: int  # bytes
    wide_loads: int  # of 16 bytes, in its hot loops; of all code without one, as of the next three
    narrow_loads: int
    wide_stores: int
    narrow_stores: int
    in_flight: int  # bytes that a multiprocessor reads at once, 16 at a time
    goal_registers: int | None
    budget_registers: int | None
    tensor_core: int = 0  # instructions of the tensor cores
    wide_copies: int = 0  # of 16 bytes, from global to shared memory

    def complaints(self) -> list[str]:
        """What breaks the budget; empty if nothing."""
        found = []
        if self.budget_registers is not None and self.registers > self.budget_registers:
            found.append(f"{self.registers} registers, budget {self.budget_registers}")
        if self.spills:
            found.append(f"{self.spills} bytes of spills")
        if self.shared > SHARED:
            found.append(f"{self.shared:,} bytes of shared memory, an H100 has {SHARED:,}")
        gathers = self.kernel in ("conv3d_gather_kernel", "conv3d_wgrad_kernel")
        if gathers and not self.tensor_core:
            found.append("no instruction of the tensor cores")
        if gathers and not self.wide_copies:
            found.append("no copy of 16 bytes")
        narrow = gathers or "merge" in self.kernel or (self.kernel, self.use) in NARROW
        if not narrow and not self.wide_loads:
            found.append("no load of 16 bytes")
        summing = "sums" in self.kernel or "statistics_kernel" in self.kernel
        if summing and self.in_flight < GOAL:
            found.append(f"{self.in_flight >> 10} KB in flight")
        if "apply" in self.kernel and not self.wide_stores:
            found.append("no store of 16 bytes")
        return found


def rows(*uses: str) -> list[Row]:
    """Every kernel, compiled in a process whose Triton compiles and does not interpret.

    Args:
        uses: names of uses, such as "bfloat16 NDHWC"; none: all.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, __file__, "--json", *uses], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{__file__} failed:\n{done.stderr[-4000:]}")
    return [Row(**row) for row in json.loads(done.stdout)]


def _uses() -> Iterator[tuple[str, Callable[[], None]]]:
    """Names and calls of launchers; each reaches one or more kernels."""
    import torch

    from fastgan.kernels import nearest, norm_act, norm_act_bwd, norm_act_bwd_bwd

    def passes(dtype: torch.dtype, form: torch.memory_format, shape: tuple[int, ...]) -> None:
        x = torch.empty(shape, dtype=dtype, device="meta").contiguous(memory_format=form)
        weight, bias = torch.empty((2, shape[1]), device="meta").unbind()
        channels = shape[1]
        _, mean, rstd = norm_act.norm_act_fwd(x, weight, bias, channels, 1e-5, 0.2)
        rest = (x, x, mean, rstd, weight, bias, channels, 0.2)
        norm_act_bwd.norm_act_bwd(*rest)
        norm_act_bwd_bwd.norm_act_bwd_bwd(x, weight, bias, *rest)

    layouts = {"NDHWC": torch.channels_last_3d, "NCDHW": torch.contiguous_format}
    for dtype in (torch.bfloat16, torch.float32):
        for layout, form in layouts.items():
            name = str(dtype).removeprefix("torch.")
            yield f"{name} {layout}", lambda d=dtype, f=form: passes(d, f, SHAPE)

    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        yield f"{name} convolution", lambda d=dtype: _convolutions(d)

    def search(dtype: torch.dtype) -> None:
        query, target = (torch.empty(n, VOXELS, dtype=dtype, device="meta") for n in (8, 1000))
        nearest.all_pairs(query, target)
        if dtype.is_floating_point:
            row = torch.empty(4096, dtype=torch.int64, device="meta")
            nearest.chosen_pairs(query, target, row, row)

    for dtype in (torch.float32, torch.bfloat16, torch.int16):
        yield f"{str(dtype).removeprefix('torch.')} rows", lambda d=dtype: search(d)


def _convolutions(dtype: torch.dtype) -> None:
    """The passes, bare and as parts of a block, at stride 1 and 2."""
    import torch

    from fastgan.kernels.conv3d import (
        Norm,
        NormGradient,
        Products,
        Statistics,
        conv3d_gather,
        conv3d_wgrad,
    )
    from fastgan.kernels.conv3d_sums import conv3d_statistics

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def volume(*shape: int) -> torch.Tensor:
        return empty(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)

    batch, read, *size = SHAPE
    written, padding = 2 * read, (1, 1, 1)
    norm = Norm(empty(batch, read), empty(batch, read), empty(read), empty(read), read, 0.2)
    of_g_norm = Norm(*(empty(batch, written) for _ in range(4)), written, 0.2)
    x, bias = volume(*SHAPE), empty(written, dtype=dtype)
    # Each way through the kernels once; of float32, which operators take in the interpreter alone,
    # the fullest.
    few = dtype == torch.float32
    for taps, step in ((4, 2),) if few else ((3, 1), (4, 2)):
        stride = step, step, step
        weight = volume(written, read, taps, taps, taps)
        g = volume(batch, written, *(n // step for n in size))
        geometry, kernel = (stride, padding), (taps, taps, taps)
        if step == 1:
            sums = conv3d_gather(x, weight, bias, *geometry, reading=norm, sums=Statistics())[1]
            conv3d_statistics(sums, written, 1e-5)
            conv3d_wgrad(g, x, kernel, *geometry)
            continue
        before = NormGradient(g, empty(batch, 6, written), 0.2)
        products = Products(x, norm)
        conv3d_gather(g, weight, None, *geometry, size=size, reading=before, sums=products)
        conv3d_wgrad(g, x, kernel, *geometry, norm=norm)
        if not few:
            conv3d_gather(x, weight, bias, *geometry)
            conv3d_wgrad(g, x, kernel, *geometry, norm=of_g_norm, of_g=True)


class _Launch(NamedTuple):
    kernel: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def launches(call: Callable[[], None]) -> list[_Launch]:
    """What `call` would start."""
    from triton.runtime.jit import JITFunction

    seen: list[_Launch] = []

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        named = {k: v for k, v in kwargs.items() if k in self.arg_names}
        given = dict(zip(self.arg_names, args, strict=False)) | named
        values = tuple(given[name] for name in self.arg_names)
        options = {k: v for k, v in kwargs.items() if k not in self.arg_names}
        seen.append(_Launch(self, values, options))

    before, JITFunction.run = JITFunction.run, run
    try:
        call()
    finally:
        JITFunction.run = before
    return seen


def source(launch: _Launch) -> Any:
    """The launch as Triton specialises it: aligned pointers, multiples of 16, 1 and None fixed."""
    import torch
    from triton.compiler import ASTSource

    types = {
        torch.float32: "fp32",
        torch.float64: "fp64",
        torch.bfloat16: "bf16",
        torch.float16: "fp16",
        torch.int64: "i64",
        torch.int32: "i32",
        torch.int16: "i16",
        torch.int8: "i8",
        torch.uint8: "u8",
    }
    signature, fixed, aligned = {}, {}, {}
    for i, (parameter, value) in enumerate(
        zip(launch.kernel.params, launch.arguments, strict=True)
    ):
        name = parameter.name
        plain = isinstance(value, int) and parameter.do_not_specialize
        one = type(value) is int and value == 1 and not plain
        if parameter.is_constexpr or value is None or one:
            signature[name] = "constexpr"
            fixed[i,] = value
            continue
        is_tensor = isinstance(value, torch.Tensor)
        if is_tensor:
            signature[name] = f"*{types[value.dtype]}"
        elif isinstance(value, int):
            signature[name] = "i32" if abs(value) < 2**31 else "i64"
        else:
            signature[name] = parameter.annotation_type or "fp32"
        if not plain and (value.data_ptr() if is_tensor else int(value)) % 16 == 0:
            aligned[i,] = [["tt.divisibility", 16]]
    return ASTSource(launch.kernel, signature, fixed, aligned)


def distinct(launch: _Launch) -> tuple[object, ...]:
    """What Triton tells launches apart by: such as differ in it are compiled each."""
    ready = source(launch)
    keys = (sorted(d.items(), key=str) for d in (ready.signature, ready.constants, ready.attrs))
    return launch.kernel.__name__, str([*keys]), tuple(sorted(launch.options.items()))


def _compiled(use: str, launch: _Launch) -> Row:
    import triton
    from triton.backends.compiler import GPUTarget

    built = triton.compile(
        source(launch), target=GPUTarget("cuda", CAPABILITY, 32), options=launch.options
    )
    tool = str(triton.knobs.nvidia.cuobjdump.path)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run(
                [tool, flag, file.name], capture_output=True, text=True, check=True
            ).stdout
            for flag in ("-res-usage", "-sass")
        )
    used = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", usage)}
    name = launch.kernel.__name__
    wide, narrow = Counter[str](), Counter[str]()
    for (operation, bits), number in hot_accesses(code).items():
        (wide if bits == WIDE else narrow)[operation] += number
    goal, budget = REGISTERS.get((name, use)) or REGISTERS.get(name, (None, None))
    return Row(
        kernel=name,
        use=use,
        registers=used["REG"],
        spills=used["LOCAL"] + used["STACK"],
        shared=built.metadata.shared,
        wide_loads=wide["LDG"],
        narrow_loads=narrow["LDG"],
        wide_stores=wide["STG"],
        narrow_stores=narrow["STG"],
        in_flight=in_flight(code, used["REG"], 32 * launch.options["num_warps"]),
        goal_registers=goal,
        budget_registers=budget,
        tensor_core=len(re.findall(r"\bH[GM]?MMA\b", code)),
        wide_copies=len(re.findall(r"\bLDGSTS\.[.\w]*\b128\b", code)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("uses", nargs="*", help="which to compile; none: all")
    options = parser.parse_args()
    uses = dict(_uses())
    chosen = options.uses or list(uses)
    found = []
    for use in chosen:
        known: set[str] = set()
        for launch in launches(uses[use]):
            if (variant := str(distinct(launch))) not in known:
                known.add(variant)
                found.append(_compiled(use, launch))
    if options.json:
        print(json.dumps([row._asdict() for row in found]))
        return
    print(f"{'kernel':<34}{'use':<17} reg goal budget spill shared  LDG.128 LDG STG.128 STG KB MMA")
    for row in found:
        print(
            f"{row.kernel:<34}{row.use:<17}{row.registers:4}{row.goal_registers or '':>5}"
            f"{row.budget_registers or '':>7}{row.spills:6}{row.shared:7}{row.wide_loads:9}"
            f"{row.narrow_loads:4}{row.wide_stores:8}{row.narrow_stores:4}{row.in_flight >> 10:3}"
            f"{row.tensor_core:4}  "
            f"{'; '.join(row.complaints())}"
        )
    raise SystemExit(int(any(row.complaints() for row in found)))


if __name__ == "__main__":
    main()
