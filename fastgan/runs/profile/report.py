"""A profile as lines for people, and the command lines of NVIDIA's profilers."""

from __future__ import annotations

import shlex
import shutil
import statistics
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fastgan.runs.profile.measure import MEASURED, Profile, Row
from fastgan.spans import DOMAIN
from fastgan.terminal import counted

__all__ = ["commands", "lines_of"]

KERNELS = 200
"""Of one step, that ncu is to look at: it runs each several times."""


def lines_of(found: Profile) -> list[str]:
    """The table, and below it what does not fit into one."""
    shape = "x".join(map(str, found.shape))
    middle = statistics.median(found.steps)
    least, most = (1e3 * bound(found.steps) for bound in (min, max))
    lines = [
        f"{found.device}, {counted(found.threads, 'thread')}, torch {found.torch}, "
        f"{found.precision}, batches of {found.batch} volumes {shape}",
        f"a step: {1e3 * middle:.4g} ms ({counted(len(found.steps), 'step')}, {least:.4g} to "
        f"{most:.4g}), {found.volumes / middle:.3g} real volumes/s",
        "",
    ]
    lines += _table(found)
    lines += [
        "",
        f"copy, measured beside: {found.copy_rate / 1e9:.3g} GB/s, read and written",
        f"waiting for data: {found.data_wait:.1%} of a step",
    ]
    if found.without_penalty is not None:
        cost = middle - found.without_penalty
        lines.append(
            f"the penalty, second derivative included: {1e3 * cost:.4g} ms "
            f"({cost / middle:.0%}); a step without it takes {1e3 * found.without_penalty:.4g} ms"
        )
    casts = sum(row.casts for row in found.rows)
    lines.append(f"casts in a step: {casts:g}")
    waits = "the host waits" if found.device != "cpu" else "on a GPU the host would wait"
    lines.append(f"{waits} for the device, in a step: {_waits(found.rows)}")
    if found.device != "cpu":
        pinned, pageable = (sum(getattr(r, k) for r in found.rows) for k in ("pinned", "pageable"))
        lines.append(f"copies to the device in a step: {pinned:g} pinned, {pageable:g} pageable")
    return lines


def _table(found: Profile) -> list[str]:
    on_gpu = any(row.launches is not None for row in found.rows)
    head = ["", "ms", "of step", "operators", *(["launches"] if on_gpu else [])]
    head += ["MB", "GB/s", "of copy"]
    total = Row(
        name="step",
        seconds=found.seconds,
        calls=sum(row.calls for row in found.rows),
        bytes=sum(row.bytes for row in found.rows),
        casts=0.0,
        launches=sum(row.launches or 0.0 for row in found.rows),
        waits={},
        pinned=0.0,
        pageable=0.0,
    )
    cells = [head]
    for row in [*found.rows, total]:
        rate = row.bytes / row.seconds if row.seconds else 0.0
        cells.append(
            [
                row.name,
                f"{1e3 * row.seconds:.2f}",
                f"{row.seconds / found.seconds:.1%}",
                f"{row.calls:g}",
                *([f"{row.launches:g}"] if on_gpu else []),
                f"{row.bytes / 1e6:.1f}",
                f"{rate / 1e9:.2f}",
                f"{rate / found.copy_rate:.0%}",
            ]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    return [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in cells
    ]


def _waits(rows: Sequence[Row]) -> str:
    found: Counter[str] = Counter()
    for row in rows:
        for name, number in row.waits.items():
            found[f"{name} in {row.name}"] += number  # type: ignore[assignment]
    return ", ".join(f"{number:g} {name}" for name, number in found.items()) or "never"


def commands(arguments: Sequence[str], out: Path) -> list[str]:
    """Lines that give the same steps to Nsight Systems and Nsight Compute.

    Args:
        arguments: of `fastgan profile`, for these steps.
        out: where their reports go.
    """
    ours = shlex.join(["fastgan", "profile", *arguments, "--ranges"])
    systems = [
        *("nsys", "profile", "--trace=cuda,nvtx", "--capture-range=nvtx"),
        *(f"--nvtx-capture={MEASURED}@{DOMAIN}", "--capture-range-end=stop"),
        *("--env-var=NSYS_NVTX_PROFILER_REGISTER_ONLY=0", f"--output={out / 'nsys'}"),
    ]
    compute = [
        *("ncu", "--nvtx", f"--nvtx-include={DOMAIN}@{MEASURED}/", "--set=detailed"),
        *(f"--launch-count={KERNELS}", f"--export={out / 'ncu'}"),
    ]
    lines = ["the same steps in NVIDIA's profilers, with every operator as a range:"]
    lines += [f"  {shlex.join(tool)} {ours}" for tool in (systems, compute)]
    missing = [tool for tool in ("nsys", "ncu") if shutil.which(tool) is None]
    if missing:
        lines.append(f"  ({' and '.join(missing)}: not found on this machine)")
    if find_spec("nvtx") is None:
        lines.append("  (nvtx is not installed: pip install 'fastgan[profile]')")
    return lines
