"""`fastgan bench`: time the operators here, compare with earlier times, or certify GPU kernels."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.durable import replace_file
from fastgan.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from fastgan.ops.proof.timing import Time

ROUNDS = 25
"""How often each pass runs: among fewer, none may have the machine to itself."""

__all__ = ["add_arguments", "certificate", "certificate_states", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "--certify",
        action="store_true",
        help="compare every GPU kernel with float64 and write what was found",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the times go, in pytest-benchmark's form; of --certify, the certificate "
        "(default: into the installed package, where it counts)",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="times of an earlier --out: end with 3 where an operator lost ground",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="of its ratio to the reference that a pass may lose (default 0.25)",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def run(options: argparse.Namespace) -> int:
    """Print a table of times, or certify.

    Returns:
        1 if a kernel computes wrongly, 3 if one lost ground against --compare.

    Raises:
        ConfigError: --certify without a GPU or with --compare, a tolerance that cannot be.
        BadFile, ResourceLimit: a file that cannot be read or written.
    """
    from fastgan.cli.process import keep_freed_memory
    from fastgan.ops.proof import baseline
    from fastgan.train.device import resolve

    device = resolve(options.device)
    if options.certify:
        if device.type != "cuda":
            raise ConfigError("bench: --certify needs a GPU that this torch can use, got cpu")
        if options.compare is not None:
            raise ConfigError("bench: --compare is of times, not of a certificate")
        return _certify(device, options.out)
    if not 0 < options.tolerance < 1:
        raise ConfigError(f"bench: --tolerance is a share between 0 and 1, got {options.tolerance}")
    before = None if options.compare is None else baseline.read_baseline(options.compare)
    keep_freed_memory()
    rows = list(_shown(device))
    if options.out is not None:
        content = json.dumps(baseline.report(rows, device), indent=1).encode()
        replace_file(options.out, content + b"\n")
        print(options.out)
    if before is None:
        return 0
    return _compare(before, rows, device, options.tolerance)


def _shown(device: torch.device, ops: Collection[str] | None = None) -> Iterator[Time]:
    """Times, each printed as it comes."""
    from fastgan.ops.proof.timing import times

    print(f"{'operator':<14}{'pass':<10}{'implementation':<16}{'ms':>9}  times the reference")
    for row in times(device, ops=ops, rounds=ROUNDS):
        print(f"{row.op:<14}{row.what:<10}{row.name:<16}{row.ms:9.2f}  {row.ratio:.2f}", flush=True)
        yield row


def _compare(
    before: dict[str, Any], rows: list[Time], device: torch.device, tolerance: float
) -> int:
    from fastgan.ops.proof import baseline

    def again(ops: set[str]) -> Iterator[Time]:
        print(f"slower than before, measured again: {', '.join(sorted(ops))}")
        yield from _shown(device, ops)

    if unlike := baseline.unlike(before, device):
        print(f"the baseline is of another machine, where ratios may differ: {unlike}")
    lost = 0
    for change in baseline.changes(before, rows, again, tolerance):
        if change.now is None:
            print(f"{change.key}: {change.before[0]:.2f} times the reference, now not there")
        elif change.share < 1 - tolerance:
            print(
                f"{change.key}: {change.before[0]:.2f} times the reference, now {change.now[0]:.2f}"
            )
        else:
            continue
        lost += 1
    print(f"{lost} lost more than {tolerance:.0%} of their ratio to the reference")
    return 3 if lost else 0


def _certify(device: torch.device, out: Path | None) -> int:
    from fastgan.ops.implementations import certificates

    found = certificate(device)
    target = out or certificates.path(certificates.architecture(device))
    replace_file(target, json.dumps(found, indent=1).encode() + b"\n")
    wrong = 0
    for key, result in found["results"].items():
        print(f"{key}: {'wrong' if result['problems'] else 'correct'}")
        for problem in result["problems"]:
            print(f"  {problem}")
        wrong += bool(result["problems"])
    if not found["results"]:
        print("no operator has a kernel for this GPU; `fastgan doctor` says why")
    print(target)
    return int(wrong > 0)


def certificate(device: torch.device) -> dict[str, Any]:
    """What a certificate holds: this machine, and the result of every implementation on it."""
    *_, last = certificate_states(device)
    return last


def certificate_states(
    device: torch.device,
    shapes: int = 24,
    *,
    names: Collection[str] | None = None,
    large: bool = True,
) -> Iterator[dict[str, Any]]:
    """A certificate as it grows, operator by operator, so that what cuts it short loses one.

    Args:
        device: a GPU; the CPU serves to try the trials.
        shapes: random shapes for each operator.
        names: of implementations; None: all.
        large: sizes of production, too.
    """
    import datetime

    import torch

    import fastgan
    from fastgan.cli.doctor import driver, version
    from fastgan.ops.implementations import certificates, dispatch
    from fastgan.ops.proof.certify import certify

    x = torch.empty(1, 1, 2, 2, 2, device=device)
    results: dict[str, Any] = {}
    on_gpu = device.type == "cuda"
    state = {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "capability": list(torch.cuda.get_device_capability(device)) if on_gpu else None,
        "driver": driver(),
        "fastgan": fastgan.__version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": version("triton"),
        "shapes": shapes,
        "large": large,
        "date": datetime.date.today().isoformat(),
        "results": results,
    }
    yield state
    for op in dispatch.OPERATORS:
        for name in dispatch.implementations(op, x):
            if names is None or name in names:
                found = certify(op, name, device, shapes=shapes, large=large)
                results[f"{op} {name}"] = {"sources": certificates.digest(name)} | found._asdict()
                yield state
