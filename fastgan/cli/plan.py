"""`fastgan plan`: what a configuration costs on this machine, and one that fits a budget."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.errors import BadFile, ConfigError
from fastgan.terminal import counted

if TYPE_CHECKING:
    from fastgan.config import Config
    from fastgan.runs.elsewhere import Elsewhere
    from fastgan.runs.plan import Plan

__all__ = ["DEFAULT_HOURS", "add_arguments", "add_budget", "bytes_of", "lines_of", "run", "say"]

OUT = Path("fastgan-plan.yaml")
DEFAULT_HOURS = 8.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, as of inspect")
    add_budget(parser)
    parser.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="KEY",
        help="dotted keys that stay as they are, such as data.shape",
    )
    parser.add_argument(
        "--gpu",
        type=float,
        metavar="GB",
        help="predict what would fit into a GPU of this memory that is not here, from peaks of "
        "small volumes on this CPU, in place of a plan for this machine",
    )
    parser.add_argument(
        "--count", type=int, default=100, help="volumes to predict `generate` for (default: 100)"
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FILE", help=f"chosen configuration ({OUT})"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")


def add_budget(parser: argparse.ArgumentParser) -> None:
    """What a training may take: of every verb that plans."""
    parser.add_argument(
        "--hours",
        type=float,
        default=DEFAULT_HOURS,
        help=f"the training must end within (default: {DEFAULT_HOURS:g})",
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GB",
        help="of the device that trains (default: what it has free now)",
    )


def run(options: argparse.Namespace) -> int:
    """Measure, choose, write the configuration, print what it takes; returns 0."""
    from fastgan import config as configuration
    from fastgan.durable import put_file
    from fastgan.runs.plan import plan_for

    if options.out.exists():
        raise BadFile(f"{options.out}: exists already, and nothing is overwritten; give --out")
    if not options.out.parent.is_dir():
        raise BadFile(f"{options.out}: there is no folder {options.out.parent}")
    wanted = configuration.load(options.config)
    if options.gpu is not None:
        return _elsewhere(wanted, options)
    plan = plan_for(
        wanted,
        hours=options.hours,
        memory=bytes_of(options.memory),
        count=options.count,
        keep=options.keep,
        progress=say,
    )
    if options.json:
        import json

        print(json.dumps(plan.as_json(), indent=1))
    else:
        print("\n".join(lines_of(plan)))
    put_file(options.out, [configuration.dump(plan.config).encode()])
    print(f"written to {options.out}; next: fastgan train --config {options.out}", file=sys.stderr)
    return 0


def _elsewhere(wanted: Config, options: argparse.Namespace) -> int:
    """Predict for a GPU that is not here; write the configuration that should fit."""
    from fastgan import config as configuration
    from fastgan.durable import put_file
    from fastgan.runs.elsewhere import predict_elsewhere

    memory = bytes_of(options.gpu, "--gpu") or 0
    found = predict_elsewhere(wanted, memory, progress=say)
    if options.json:
        import json

        print(json.dumps(found.as_json(), indent=1))
    else:
        print("\n".join(lines_of_elsewhere(found)))
    put_file(options.out, [configuration.dump(found.config).encode()])
    print(f"written to {options.out}", file=sys.stderr)
    return 0


def lines_of_elsewhere(found: Elsewhere) -> list[str]:
    """Predicted memory by micro-batch, with and without recomputation, and what fits."""
    shape, *small = (
        " x ".join(map(str, shape)) for shape in (found.config.data.shape, *found.measured)
    )
    held = {(o.micro_batch, o.recompute): o for o in found.options}
    lines = [
        f"{shape} on a GPU of {found.memory / 1e9:g} GB: a prediction, from peaks of "
        f"{' and '.join(small)} on this CPU; nothing was measured on a GPU",
        "train.micro_batch         kept   recomputed",
    ]
    for part in sorted({o.micro_batch for o in found.options}, reverse=True):
        told = [
            f"{_gb(held[part, again].device_bytes)}{'' if held[part, again].fits else ' (no)'}"
            for again in (False, True)
        ]
        lines.append(f"{part:>17}{told[0]:>13}{told[1]:>13}")
    train = found.config.train
    part = train.micro_batch or train.batch_size
    again = "with" if train.recompute else "without"
    return [*lines, f"predicted to fit: train.micro_batch {part}, {again} train.recompute"]


def lines_of(plan: Plan) -> list[str]:
    """What a plan takes, as a table, then what was traded and what to know."""
    found, config = plan.prediction, plan.config
    updates = "" if config.translates else f", {config.gan.critic_steps} critic"
    rows = [
        ("device", f"{plan.measured.device}, {config.train.precision}"),
        (
            "a step",
            f"{_seconds(found.step_seconds)} (batch {config.train.batch_size}{updates}; "
            f"{_steps_timed(plan)})",
        ),
        ("real volumes/s", f"{found.volumes_per_second:.3g} seen by the critic"),
        ("train", f"{_seconds(found.train_seconds)} for {counted(config.train.steps, 'step')}"),
        ("  of it the data", f"{_seconds(found.prepare_seconds)} the first time"),
    ]
    if found.count:
        rows.append(
            ("generate", f"{_seconds(found.generate_seconds)} for {counted(found.count, 'volume')}")
        )
        about = f"about {_seconds(found.audit_seconds)} (counted, not measured: to a factor of 3)"
        rows.append(("audit", about))
    rows.append(("host memory", f"{_gb(found.host_bytes)} at the peak"))
    if found.device_bytes:
        needed = f"{_gb(found.device_bytes)} of tensors, {_gb(found.device_held)} must be free"
        rows.append(("device memory", needed))
    rows += [
        ("disk", _gb(found.disk_bytes)),
        ("  checkpoints", f"{_gb(found.checkpoints_bytes)}, {config.train.keep_checkpoints} kept"),
        ("  cache", f"{_gb(found.cache_bytes)} of prepared volumes, at most"),
        ("  pictures", _gb(found.pictures_bytes)),
    ]
    if found.count:
        rows.append(("  generated", _gb(found.generated_bytes)))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    budget = f"{plan.budget.hours:g} h and {_gb(plan.budget.memory)}"
    if plan.traded:
        lines += ["", f"given up to end within {budget}:"]
        lines += [f"- {said}" for said in plan.traded]
    else:
        lines += ["", f"nothing was given up: it ends within {budget} as it is"]
    return [*lines, *(f"note: {note}" for note in plan.notes)]


def _steps_timed(plan: Plan) -> str:
    steps = plan.measured.steps
    return f"median of {counted(steps, 'step')}" if steps else "the first step alone"


def say(text: str) -> None:
    """Tell how a plan comes about, beside its result."""
    print(text, file=sys.stderr, flush=True)


def bytes_of(gigabytes: float | None, flag: str = "--memory") -> int | None:
    """Bytes of --memory, or of another flag.

    Raises:
        ConfigError: it is no number above 0.
    """
    if gigabytes is None:
        return None
    if not (math.isfinite(gigabytes) and gigabytes > 0.0):
        raise ConfigError(f"{flag}: must be a number of gigabytes above 0, got {gigabytes:g}")
    return int(gigabytes * 1e9)


def _seconds(seconds: float) -> str:
    """Three digits of a time below a minute, else hours and minutes."""
    if seconds < 1.0:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60.0:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"
