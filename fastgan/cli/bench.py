"""`fastgan bench`: time the operators on this machine, or certify their kernels on its GPU."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastgan.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["add_arguments", "certificate", "run"]

ROUNDS = 7


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
    from fastgan.train.device import resolve

    device = resolve(options.device)
    if options.certify:
        if device.type != "cuda":
            raise ConfigError("bench: --certify needs a GPU that this torch can use, got cpu")
        return _certify(device, options.out)
    if options.out is not None:
        raise ConfigError("bench: --out is the place of a certificate and needs --certify")
    keep_freed_memory()
    print(f"{'operator':<10}{'pass':<10}{'implementation':<16}{'ms':>9}  times the reference")
    for row in _times(device):
        print(f"{row.op:<10}{row.what:<10}{row.name:<16}{row.ms:9.2f}  {row.ratio:.2f}")
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


def certificate(device: torch.device, shapes: int = 24) -> dict[str, Any]:
    """What a certificate holds: this machine, and the result of every implementation on it.

    Args:
        device: a GPU; the CPU serves to try the trials.
        shapes: random shapes for each operator.
    """
    import datetime

    import torch

    import fastgan
    from fastgan.cli.doctor import driver, version
    from fastgan.ops.certify import certify
    from fastgan.ops.implementations import certificates, dispatch

    x = torch.empty(1, 1, 2, 2, 2, device=device)
    results = {}
    for op in dispatch.OPERATORS:
        for name in dispatch.implementations(op, x):
            found = certify(op, name, device, shapes=shapes)
            results[f"{op} {name}"] = {"sources": certificates.digest(name)} | found._asdict()
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "capability": list(torch.cuda.get_device_capability(device)) if on_gpu else None,
        "driver": driver(),
        "fastgan": fastgan.__version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": version("triton"),
        "shapes": shapes,
        "date": datetime.date.today().isoformat(),
        "results": results,
    }


class _Row(NamedTuple):
    op: str
    what: str
    name: str
    ms: float
    ratio: float


def _times(device: torch.device) -> Iterator[_Row]:
    """Medians of every implementation, which take turns, and their speed over the reference's."""
    import torch

    from fastgan.ops import implementation
    from fastgan.ops.implementations import dispatch

    x = torch.empty(1, 1, 2, 2, 2, device=device)
    for op, build in _workloads(device).items():
        names = ["reference", *dispatch.implementations(op, x)]
        if device.type == "cpu" and "triton" in names:
            names.remove("triton")  # an interpreter
        runs: dict[str, dict[str, Callable[[], object]]] = {}
        for name in names:
            with implementation(name):
                runs[name] = build()
        for what in runs["reference"]:
            seconds: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(ROUNDS + 1):
                for name in names:
                    with implementation(name):
                        seconds[name].append(_seconds(runs[name][what], device))
            # The first round warms up.
            median = {name: sorted(s[1:])[ROUNDS // 2] for name, s in seconds.items()}
            for name in names:
                ratio = median["reference"] / median[name]
                yield _Row(op, what, name, 1e3 * median[name], ratio)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _workloads(device: torch.device) -> dict[str, Callable[[], dict[str, Callable[[], object]]]]:
    """For each operator: what makes its passes, as functions of nothing."""
    import torch

    from fastgan import ops

    torch.manual_seed(0)
    side = 64 if device.type == "cuda" else 32
    form = torch.channels_last_3d
    x, g, v = (
        torch.randn(2, 32, side, side, side, device=device).to(memory_format=form) for _ in range(3)
    )
    weight, bias = torch.randn(2, 32, device=device).unbind()
    single = torch.randn(2, 1, side, side, side, device=device)
    kernel = torch.randn(16, 1, 4, 4, 4, device=device)
    rows = torch.randint(-1000, 1000, (80, 16**3), dtype=torch.int16, device=device)

    def passes(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> dict[str, Any]:
        leaves = [t.detach().requires_grad_() for t in inputs]
        y = function(*leaves)
        cotangent = (g if y.shape == g.shape else torch.randn_like(y)).requires_grad_()
        (slope,) = torch.autograd.grad(y, leaves[0], cotangent, create_graph=True)
        mixed = v if slope.shape == v.shape else torch.randn_like(slope)

        def forward() -> torch.Tensor:
            with torch.no_grad():
                return function(*inputs)

        return {
            "forward": forward,
            "backward": lambda: torch.autograd.grad(y, leaves, cotangent, retain_graph=True),
            "second": lambda: torch.autograd.grad(
                slope, [cotangent, leaves[1]], mixed, retain_graph=True, allow_unused=True
            ),
        }

    return {
        "norm_act": lambda: passes(lambda *t: ops.norm_act(*t, num_groups=32), x, weight, bias),
        "bias_act": lambda: passes(ops.bias_act, x, bias),
        "conv3d": lambda: passes(
            lambda x, w: ops.conv3d(x, w, stride=2, padding=1), single, kernel
        ),
        "nearest": lambda: {"search": lambda: ops.nearest(rows[:16], rows[16:])},
    }
