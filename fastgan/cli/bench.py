"""`fastgan bench`: time the operators on this machine, or certify their kernels on its GPU."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.errors import ConfigError

if TYPE_CHECKING:
    import torch

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
        help="where the certificate goes (default: into the installed package, where it counts)",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def run(options: argparse.Namespace) -> int:
    """Print a table of times, or certify; 1 if a kernel computes wrongly.

    Raises:
        ConfigError: --certify without a GPU, --out without --certify.
        BadFile, ResourceLimit: the certificate cannot be written.
    """
    from fastgan.cli.process import keep_freed_memory
    from fastgan.ops.proof.timing import times
    from fastgan.train.device import resolve

    device = resolve(options.device)
    if options.certify:
        if device.type != "cuda":
            raise ConfigError("bench: --certify needs a GPU that this torch can use, got cpu")
        return _certify(device, options.out)
    if options.out is not None:
        raise ConfigError("bench: --out is the place of a certificate and needs --certify")
    keep_freed_memory()
    print(f"{'operator':<14}{'pass':<10}{'implementation':<16}{'ms':>9}  times the reference")
    for row in times(device):
        print(f"{row.op:<14}{row.what:<10}{row.name:<16}{row.ms:9.2f}  {row.ratio:.2f}")
    return 0


def _certify(device: torch.device, out: Path | None) -> int:
    import json

    from fastgan.durable import replace_file
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
