"""`fastgan profile`: where the time of a training step goes on this machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.errors import ConfigError

if TYPE_CHECKING:
    from fastgan.config import Config

__all__ = ["add_arguments", "run"]

OUT = Path("fastgan-profile")
STEPS, WARM_UP = 3, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "what", type=Path, metavar="CONFIG-or-RUN", help="YAML file, or a run folder"
    )
    parser.add_argument(
        "--steps", type=int, default=STEPS, help=f"steps that are measured (default: {STEPS})"
    )
    parser.add_argument(
        "--warm-up", type=int, default=WARM_UP, help=f"steps before them (default: {WARM_UP})"
    )
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: the configuration's)")
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="DIR", help=f"new or empty folder ({OUT})"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")
    parser.add_argument(
        "--ranges",
        action="store_true",
        help="make the steps alone, with NVTX ranges, for nsys or ncu; nothing is written",
    )


def run(options: argparse.Namespace) -> int:
    """Measure, print, and write profile.json, profile.txt and trace.json; returns 0."""
    for name in ("steps", "warm_up"):
        if getattr(options, name) < 1:
            raise ConfigError(
                f"--{name.replace('_', '-')}: must be at least 1, got {getattr(options, name)}"
            )
    # torch.profiler would tell of its own start and end.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    config = _config(options.what)
    if options.device is not None:
        config.train.device = options.device

    from fastgan.cli.process import keep_freed_memory
    from fastgan.runs.profile import annotate, profile

    keep_freed_memory()
    if options.ranges:
        annotate(config, steps=options.steps, warm_up=options.warm_up)
        return 0
    import json

    from fastgan.durable import put_file
    from fastgan.runs.profile.measure import TRACE
    from fastgan.runs.profile.report import commands, lines_of
    from fastgan.runs.synthetic import make_empty

    make_empty(options.out)
    found = profile(config, options.out, steps=options.steps, warm_up=options.warm_up)
    arguments = [str(options.what), *(["--device", options.device] if options.device else [])]
    arguments += ["--steps", str(options.steps), "--warm-up", str(options.warm_up)]
    tools = commands(arguments, options.out)
    timeline = f"timeline of a step, for chrome://tracing: {options.out / TRACE}"
    text = "\n".join([*lines_of(found), "", timeline, *tools])
    content = json.dumps(found.as_json() | {"commands": tools[1:3]}, indent=1)
    put_file(options.out / "profile.json", [content.encode() + b"\n"])
    put_file(options.out / "profile.txt", [text.encode() + b"\n"])
    print(content if options.json else text)
    return 0


def _config(what: Path) -> Config:
    from fastgan import config as configuration

    if not what.is_dir():
        return configuration.load(what)

    from fastgan.train.run_folder import RunFolder

    run = RunFolder(what)
    config = run.config()
    run.require_sources(config)
    return config
