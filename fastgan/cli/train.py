"""`fastgan train`: train a GAN from a configuration file and flags, or resume a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.cli.main import nearest
from fastgan.errors import ConfigError
from fastgan.terminal import terminal_of

if TYPE_CHECKING:
    from fastgan.config import Config
    from fastgan.train.ranks import Ranks

__all__ = ["TAKES_CONFIG_FLAGS", "add_arguments", "run"]

TAKES_CONFIG_FLAGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that are not keys of the configuration."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file with any of the keys"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="where run folders are made (default: runs)"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN", help="run folder to go on with")
    parser.add_argument(
        "--allow-change",
        action="append",
        default=[],
        metavar="KEY",
        help="dotted key in which the resumed run may differ; repeatable",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")


def run(options: argparse.Namespace) -> int:
    """Train; returns 0 when all steps are done."""
    from fastgan.train.ranks import joined

    with joined() as ranks:
        return _train(options, ranks)


def _train(options: argparse.Namespace, ranks: Ranks) -> int:
    from fastgan import config as configuration

    config = _configure(options)
    unknown = [key for key in options.allow_change if key not in _changeable()]
    if unknown:
        raise ConfigError(
            f"--allow-change: unknown key {unknown[0]!r}{nearest(unknown[0], _changeable())}"
        )

    from fastgan.cli.process import keep_freed_memory

    keep_freed_memory()
    from fastgan.data.check import check_data
    from fastgan.train import RunFolder, describe, fit
    from fastgan.train.build import data_of, summary, variant_of
    from fastgan.train.fit import rehearse

    runs = options.out if options.resume is None else options.resume.parent
    cache = None if options.dry_run else runs / "cache"
    if options.resume is not None:
        RunFolder(options.resume).require_sources(config)
    open_data = partial(data_of, config, "train", cache_dir=cache)
    dataset = ranks.in_turn("prepared volumes", open_data)
    if ranks.first:
        for sentence in check_data(config.data, dataset, cache_dir=cache):
            print(f"warning: {sentence}", file=sys.stderr)
    record = describe(dataset)
    variant = variant_of(config, record)
    kept = ("out", "resume", "allow_change")
    place = {name: getattr(options, name) for name in kept}
    if options.dry_run:
        if ranks.first:
            settled = rehearse(variant, dataset, config, ranks=ranks, **place)
            print(configuration.dump(settled), end="")
            for line in summary(record, variant).splitlines():
                print(f"# {line}")
        return 0
    command = ["fastgan", *sys.argv[1:]]
    run_folder = fit(variant, dataset, config, command=command, ranks=ranks, **place)
    if ranks.first:
        print(run_folder.path)
    return 0


def _configure(options: argparse.Namespace) -> Config:
    """The configuration of defaults or the resumed run, overlaid by --config, then by flags."""
    from fastgan import config as configuration

    if options.config is not None:
        base = configuration.load(options.config)
    elif options.resume is not None:
        from fastgan.train.run_folder import RunFolder

        base = RunFolder(options.resume).config()
    else:
        base = configuration.Config()
    return _overlay(base, options.rest, options.parser)


def _overlay(base: Config, flags: Sequence[str], parser: argparse.ArgumentParser) -> Config:
    """`base` with `--leaf value` and `--section.leaf value` applied."""
    import tyro
    from pydantic import ValidationError

    from fastgan import config as configuration

    flags = _leaf_names(flags)
    try:
        # It colours its help, and what it shows is the user's own.
        with redirect_stdout(terminal_of(sys.stdout)), redirect_stderr(terminal_of(sys.stderr)):
            chosen = tyro.cli(
                configuration.Config,
                prog=parser.prog,
                description=parser.format_help() + "\nkeys of the configuration:",
                default=base,
                args=flags,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
            )
        # Checked again as a whole, for tyro builds sections from unchecked parts.
        return configuration.parse(chosen.model_dump(mode="json"), where="command line")
    except ValidationError as error:
        raise ConfigError(f"train: {error.errors()[0]['msg']}") from None


def _leaf_names(flags: Sequence[str]) -> list[str]:
    """The flags with section prefixes removed, after looking for unknown ones."""
    from fastgan.config import known_keys

    leaves = {f"--{key.rpartition('.')[2].replace('_', '-')}": key for key in known_keys()}
    known = {**leaves, **{f"--{key.replace('_', '-')}": key for key in leaves.values()}}
    switches = {f"--no-{leaf[2:]}" for leaf in leaves}
    short: list[str] = []
    for flag in flags:
        if not flag.startswith("--"):
            # CT is as good a name as ct.
            short.append(flag.lower() if short[-1:] in (["--modality"], ["--modality-b"]) else flag)
            continue
        name, equals, value = flag.partition("=")
        name = name.replace("_", "-")
        if name not in known and name not in switches and name != "--help":
            raise ConfigError(f"train: unknown flag {flag!r}{nearest(name, list(known))}")
        leaf = known.get(name, name).rpartition(".")[2].replace("_", "-").removeprefix("--")
        if leaf.startswith("modality"):
            value = value.lower()
        short.append(f"--{leaf}{equals}{value}")
    return short


def _changeable() -> list[str]:
    from fastgan.config import known_keys
    from fastgan.train.made_with import FINGERPRINT

    return [*known_keys(), FINGERPRINT]
