"""What the compiler made of the GPU kernels: speed that needs neither a clock nor a GPU.

    python bench/tools/machine_code.py          # or: make kernels

Compiles csrc/cuda for one architecture and prints, per kernel, registers, spills, shared memory,
the widest loads and stores of its machine code and the kilobytes that a multiprocessor reads at
once; Triton's kernels stand beside. Goals do not move; a budget is what holds today, and beyond it,
or on a narrow access in a hot loop, the program fails. Where both were compiled,
bench/results/machine_code/ is written anew. Nothing here has run on a GPU.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from loops import WIDE, Accesses, accesses, hot_accesses, instructions
from reads_in_flight import GOAL, in_flight

ROOT = Path(__file__).resolve().parents[2]
ARCH = "90a"
RESULTS = ROOT / "bench" / "results" / "machine_code" / f"sm_{ARCH}.json"
NVCC_FLAGS = ["-std=c++20", "-O3", "-DNDEBUG", f"-gencode=arch=compute_{ARCH},code=sm_{ARCH}"]


class Missing(RuntimeError):
    """A tool of the CUDA toolkit that is not here; the message names it."""


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel."""

    provider: str
    name: str  # with its template arguments, such as "norm_act_bwd_kernel<bfloat16, 8>"
    registers: int
    spill_bytes: int
    shared_bytes: int  # of its own; dynamic shared memory is the launch's
    widest_load: int  # bits, of global memory; 0: none
    widest_store: int
    goal: int | None  # registers
    budget: int | None
    must_load: int = 0  # bits of the widest load and store that the budget asks for
    must_store: int = 0
    narrow: Accesses = field(default_factory=Accesses)  # of its hot loops, below 16 bytes
    in_flight: int = 0  # bytes that a multiprocessor reads at once, 16 at a time
    must_fly: int = 0

    def complaints(self) -> list[str]:
        """What it breaks; empty if nothing."""
        found = []
        if self.budget is not None and self.registers > self.budget:
            found.append(f"{self.registers} registers, budget {self.budget}")
        if self.spill_bytes:
            found.append(f"{self.spill_bytes} bytes of spills")
        if self.widest_load < self.must_load:
            found.append(f"widest load {self.widest_load} bits, not {self.must_load}")
        if self.widest_store < self.must_store:
            found.append(f"widest store {self.widest_store} bits, not {self.must_store}")
        for (operation, bits), count in sorted(self.narrow.items()):
            found.append(f"{count} {operation} of {bits} bits in a hot loop, not {WIDE}")
        if self.in_flight < self.must_fly:
            found.append(f"{self.in_flight >> 10} KB in flight, not {self.must_fly >> 10}")
        return found


@dataclass(frozen=True)
class Limit:
    """Goal and budget of the registers of kernels whose name begins with a pattern."""

    pattern: str
    goal: int
    budget: int
    must_load: int = 0
    must_store: int = 0
    must_fly: int = 0
    # Accesses below 16 bytes that a hot loop may have; None: any, where no access is wide.
    narrow: frozenset[tuple[str, int]] | None = frozenset()


THREADS = 256  # of a block
# Inputs and weights of a convolution of one channel and biases, which are read one by one.
ELEMENTS = frozenset({("LDG", 16), ("LDG", 32), ("LDG", 64)})
# Of bias_act: a byte a thread, those of a warp side by side.
BITS = frozenset({("LDG", 8), ("STG", 8)})
# 256 threads a block: 64 registers leave 4 blocks to a multiprocessor, 80 leave 3, 128 leave 2. The
# second template argument is the elements of an access, of convolutions the stride; the first
# pattern that fits counts. Convolutions of one channel read its side element by element, in rows.
LIMITS = [
    Limit(r"conv_single_fprop_kernel<", 80, 80, 16, 128, narrow=ELEMENTS),
    Limit(r"conv_single_dgrad_kernel<", 80, 80, 128, 16),
    Limit(r"conv_single_wgrad_kernel<", 80, 80, 128, 32, narrow=ELEMENTS),
    Limit(r"norm_act_bwd_bwd_sums_kernel<\w+, [248]>", 80, 128, 128, 0, GOAL),
    Limit(r"norm_act_bwd_bwd_kernel<bfloat16, 8>", 80, 128, 128, 128, 24 << 10),
    Limit(r"norm_act_bwd_bwd_kernel<\w+, [24]>", 80, 128, 128, 128, GOAL),
    Limit(r"norm_act_moments_kernel<\w+, [248]>", 64, 80, 128, 0, GOAL),
    Limit(r"norm_act_apply_kernel<\w+, [248]>", 64, 80, 128, 128, GOAL),
    Limit(r"norm_act_bwd_sums_kernel<\w+, [248]>", 64, 112, 128, 0, GOAL),
    Limit(r"norm_act_bwd_kernel<\w+, [248]>", 64, 128, 128, 128, GOAL),
    Limit(r"slope_penalty_squares_kernel<\w+, [248]>", 40, 64, 128, 0, GOAL),
    Limit(r"slope_penalty_(bwd|mix)_kernel<\w+, [248]>", 40, 64, 128, 128, GOAL),
    Limit(r"bias_act_fwd_kernel<\w+, [02]>", 40, 64, 128, 128, GOAL, BITS),
    Limit(r"bias_act_fwd_kernel<\w+, 1>", 40, 64, 128, 128, GOAL, BITS | ELEMENTS),
    Limit(r"bias_act_bwd_kernel<", 40, 64, 128, 128, GOAL, BITS),
    Limit(r"", 64, 80, narrow=None),
]


def find_tool(name: str) -> Path:
    """A program of the CUDA toolkit: from CUDA_HOME, PATH, or where Triton carries it."""
    folders = [Path(os.environ["CUDA_HOME"]) / "bin"] if "CUDA_HOME" in os.environ else []
    spec = importlib.util.find_spec("triton")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "backends" / "nvidia" / "bin")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    found = shutil.which(name)
    if found is None:
        raise Missing(f"no {name}: neither in CUDA_HOME, on PATH, nor in an installed Triton")
    return Path(found)


def cuda_kernels() -> list[Kernel]:
    """Kernels of csrc/cuda. Compiles what has changed since the last call.

    Raises:
        Missing: nvcc, cuobjdump or nvdisasm is not here.
    """
    nvcc, cuobjdump, _ = find_tool("nvcc"), find_tool("cuobjdump"), find_tool("nvdisasm")
    folder = ROOT / "build" / "machine_code" / ARCH
    found: list[Kernel] = []
    for source in sorted((ROOT / "csrc" / "cuda").rglob("*.cu")):
        # folders and all: many operators have a fwd
        cubin = folder / source.relative_to(ROOT / "csrc" / "cuda").with_suffix(".cubin")
        log = cubin.with_suffix(".log")
        cubin.parent.mkdir(parents=True, exist_ok=True)
        if not _current(source, cubin):
            command = [nvcc, *NVCC_FLAGS, "-I", ROOT / "csrc", "-cubin", "-Xptxas", "-v"]
            log.write_text(_output(*command, source, "-o", cubin))
            _stamp(cubin).write_text(_key(source))
        environment = os.environ | {"PATH": f"{cuobjdump.parent}{os.pathsep}{os.environ['PATH']}"}
        code = _output(cuobjdump, "-sass", cubin, environment=environment)
        found += parse(log.read_text(), code)
    return found


def parse(log: str, code: str) -> list[Kernel]:
    """Kernels from the output of ptxas -v and the disassembly of the same file."""
    bodies = dict(_functions(code))
    # a kernel without spills says so; its line of registers may name shared memory
    pattern = (
        r"Compiling entry function '(\S+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)"
    )
    kernels = []
    for mangled, stores, loads, registers, rest in re.findall(pattern, log, re.S):
        shared = re.search(r"(\d+) bytes smem", rest)
        body, name = bodies[mangled], readable(mangled)
        count = accesses([text for _, text in instructions(body)])
        limit = next(limit for limit in LIMITS if re.match(limit.pattern, name))
        kernels.append(
            Kernel(
                provider="native",
                name=name,
                registers=int(registers),
                spill_bytes=int(stores) + int(loads),
                shared_bytes=int(shared.group(1)) if shared else 0,
                widest_load=_widest("LDG", count),
                widest_store=_widest("STG", count),
                goal=limit.goal,
                budget=limit.budget,
                must_load=limit.must_load,
                must_store=limit.must_store,
                narrow=_narrow(body, limit),
                in_flight=in_flight(body, int(registers), THREADS),
                must_fly=limit.must_fly,
            )
        )
    return sorted(kernels, key=lambda k: k.name)


TYPES = {"f": "float", "d": "double", "8BFloat16": "bfloat16"}


def readable(mangled: str) -> str:
    """The kernel's own name and template arguments, of a mangled name in a namespace."""
    rest = mangled.removeprefix("_ZN")
    name = mangled
    while match := re.match(r"\d+", rest):
        end = match.end() + int(match.group())
        name, rest = rest[match.end() : end], rest[end:]
    arguments = re.match(r"I(?:N\w*?(8BFloat16)E|([fd]))(?:Li(\d+)E)?E", rest)
    if not arguments:
        return name
    half, letter, count = arguments.groups()
    return f"{name}<{', '.join(filter(None, (TYPES[half or letter], count)))}>"


def _functions(code: str) -> Iterator[tuple[str, str]]:
    parts = re.split(r"^\s*Function : (\S+)$", code, flags=re.M)
    return zip(parts[1::2], parts[2::2], strict=True)


def _narrow(body: str, limit: Limit) -> Accesses:
    if limit.narrow is None:
        return Accesses()
    found = hot_accesses(body).items()
    return Accesses({k: n for k, n in found if k[1] < WIDE and k not in limit.narrow})


def _widest(operation: str, found: Accesses) -> int:
    return max((width for name, width in found if name == operation), default=0)


def _key(source: Path) -> str:
    """Hash of all that a kernel's machine code depends on."""
    files = [source, *sorted((ROOT / "csrc" / "cuda").rglob("*.*h"))]
    files += sorted((ROOT / "csrc" / "core").glob("*.h"))
    digest = hashlib.sha256(" ".join(NVCC_FLAGS).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _stamp(cubin: Path) -> Path:
    return cubin.with_suffix(".key")


def _current(source: Path, cubin: Path) -> bool:
    stamp = _stamp(cubin)
    return cubin.is_file() and stamp.is_file() and stamp.read_text() == _key(source)


def _output(*command: object, environment: dict[str, str] | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def triton_kernels() -> list[Kernel]:
    """Those that bench/tools/machine_code_triton.py lists, where it is.

    Raises:
        Missing: there is no such file, or no Triton.
    """
    path = Path(__file__).with_name("machine_code_triton.py")
    if not path.is_file() or importlib.util.find_spec("triton") is None:
        raise Missing(f"no Triton, or no {path.name}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return [
        Kernel(
            provider="triton",
            name=f"{row.kernel} {row.use}",
            registers=row.registers,
            spill_bytes=row.spills,
            shared_bytes=row.shared,
            widest_load=128 if row.wide_loads else 32,
            widest_store=128 if row.wide_stores else 32,
            goal=row.goal_registers,
            budget=row.budget_registers,
            in_flight=row.in_flight,
        )
        for row in module.rows()
    ]


def table(kernels: list[Kernel]) -> str:
    """The kernels as a table, goal and budget in columns of their own."""
    width = max(len(k.name) for k in kernels)
    titles = "provider  registers  goal  budget  spills  shared  load  store  KB at once"
    lines = [f"{'kernel':<{width}}  {titles}"]
    for k in kernels:
        lines.append(
            f"{k.name:<{width}}  {k.provider:<8}  {k.registers:>9}  {k.goal or '':>4}  "
            f"{k.budget or '':>6}  {k.spill_bytes:>6}  {k.shared_bytes:>6}  {k.widest_load:>4}  "
            f"{k.widest_store:>5}  {k.in_flight >> 10 or '':>10}"
        )
    return "\n".join(lines)


def report(kernels: list[Kernel]) -> dict[str, object]:
    """What the pages' tables are written from."""
    import triton

    nvcc = re.search(r"release ([\d.]+)", _output(find_tool("nvcc"), "--version"))
    return {
        "architecture": f"sm_{ARCH}",
        "nvcc": nvcc[1] if nvcc else "unknown",
        "triton": triton.__version__,
        "goal, bytes at once": GOAL,
        "kernels": [asdict(kernel) for kernel in kernels],
    }


def main() -> int:
    kernels: list[Kernel] = []
    missing = []
    for compiled in (cuda_kernels, triton_kernels):
        try:
            kernels += compiled()
        except Missing as error:
            missing.append(str(error))
    print(f"sm_{ARCH}: registers a thread, bytes of spills and shared memory, bits of an access")
    print(f"KB at once: of 16-byte reads, a multiprocessor; goal {GOAL >> 10}")
    if kernels:
        print(table(kernels))
    print(*missing, sep="\n", end="\n" if missing else "")
    if not missing:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(report(kernels), indent=1) + "\n")
        print(f"written: {RESULTS}")
    broken = {kernel.name: found for kernel in kernels if (found := kernel.complaints())}
    for name, found in broken.items():
        print(f"above budget: {name}: {', '.join(found)}")
    return int(bool(broken) or not kernels)


if __name__ == "__main__":
    sys.exit(main())
