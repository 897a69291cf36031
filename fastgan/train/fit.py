"""Training in a run folder: a new one, or one that is gone on with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from fastgan.config import Config
from fastgan.data.ledger import with_earlier
from fastgan.errors import ConfigError, StateError
from fastgan.gans import Variant
from fastgan.guarded import typed
from fastgan.train import checkpoint
from fastgan.train.batches import TrainingSet
from fastgan.train.build import describe
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.counters import counters_of
from fastgan.train.device import repeatable, resolve
from fastgan.train.loop import Training
from fastgan.train.made_with import FINGERPRINT
from fastgan.train.parts import Parts, require_repeatable
from fastgan.train.precision import resolve_precision
from fastgan.train.progress import Progress
from fastgan.train.ranks import (
    Ranks,
    joined,
    require_divisible,
    require_separable,
    spread_over,
)
from fastgan.train.ranks.facts import facts_of_rank
from fastgan.train.run_folder import RunFolder, require_place
from fastgan.train.signals import Interruption, watch_signals
from fastgan.train.step_graph import obstacle_of, require_graph
from fastgan.train.tensorboard import require_writer
from fastgan.train.views import kept_views

__all__ = ["fit", "rehearse"]


@typed("train")
def fit(
    variant: Variant,
    dataset: TrainingSet,
    config: Config | None = None,
    *,
    out: Path | str = "runs",
    resume: Path | str | None = None,
    allow_change: Sequence[str] = (),
    command: Sequence[str] | None = None,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
) -> RunFolder:
    """Train `variant` on `dataset` and leave everything in a run folder.

    SIGTERM and SIGINT finish the step, save, and end in SystemExit(143) or KeyboardInterrupt; a
    second signal ends the process at once.

    Args:
        variant: the game; trained in place, with its live (not averaged) weights.
        dataset: a `fastgan.data.Dataset`, or an `Unpaired` for a cyclegan.
        config: steps, batch size and the rest; the defaults, or on resume the run's own.
        out: folder under which a new, numbered run folder is made.
        resume: a run folder to go on with, from its newest checkpoint that verifies; one that was
            killed before its first is begun anew.
        allow_change: dotted keys in which a resumed run may differ from what it was.
        command: what to record as the command line; by default this process's.
        progress: where to report; by default a bar or lines on standard error.
        ranks: the processes that share the work; by default those that torchrun started, all of
            which call `fit` with the same arguments.

    Returns:
        The run folder.

    Raises:
        ConfigError: a setting that cannot work here, such as a device that is not there.
        StateError: the run is in use, differs in other keys, or holds no usable checkpoint.
        NumericsError: NaN or infinity under policy `stop`; checkpoints are as before that step.
        ResourceLimit, BadFile, CorruptFile: memory or disk; a save that fails is never ignored.
        RankError: another process was lost, or differs.

    Deterministic: with `train.deterministic`, also across kill and resume, on one machine.
    """
    command = sys.argv if command is None else command
    with ExitStack() as stack:
        ranks = ranks or stack.enter_context(joined())
        run = None if resume is None else RunFolder(resume)
        config, device = _settle(config or (run.config() if run else Config()), ranks)
        _require_divisible(variant, config, ranks)
        stack.enter_context(spread_over(variant, ranks.slabs))
        record = _recorded(dataset, run)
        found = None
        if run is not None:
            stack.enter_context(_written_by(run, ranks))
            found = _resumable(run, config, record, allow_change)
        ranks.agree(facts_of_rank(config, record, device, found))
        if run is None:
            make = partial(_create, out, config, record, command)
            run = RunFolder(ranks.first_does("the run folder", make))
            stack.enter_context(_written_by(run, ranks))
        threads = counters_of(found).threads if found and config.train.deterministic else None
        stack.enter_context(repeatable(config.train.deterministic, threads))
        training = Training(variant, dataset, config, run, device, record, ranks)
        stack.callback(training.batches.close)
        if progress is None or not ranks.first:
            start = found.step if found else 0
            progress = Progress(config.train.steps, start, None if ranks.first else StringIO())
        stack.enter_context(progress)
        progress.say(f"run folder: {run.path}")
        ranks.connect(device)
        if found is not None:
            training.restore(found)
        else:
            ranks.share(training.tensors())
        if resume is not None and ranks.first:
            _go_on(run, found, config, record, allow_change, command, progress)
        interruption = stack.enter_context(watch_signals())
        refresh = stack.enter_context(_views(training, interruption, progress))
        training.train(progress, interruption, refresh)
        if interruption:
            number, step = interruption.signal, training.steps_done
            progress.say(f"stopped by signal {number} after {step} steps")
    if interruption.signal is not None and not ranks.first:
        # With the same code as the first, which alone says that it was stopped.
        raise SystemExit(128 + interruption.signal)
    interruption.leave()
    return run


def _create(
    out: Path | str, config: Config, record: Mapping[str, Any], command: Sequence[str]
) -> str:
    return str(RunFolder.create(out, config, record, command).path)


def _written_by(run: RunFolder, ranks: Ranks) -> AbstractContextManager[None]:
    """The folder's lock; the first rank writes, and has it for all."""
    return run.locked() if ranks.first else nullcontext()


def _views(
    training: Training, interruption: Interruption, progress: Progress
) -> AbstractContextManager[Callable[[], None]]:
    if not training.ranks.first:
        return nullcontext(lambda: None)
    return kept_views(training, interruption, progress.say)


def _go_on(
    run: RunFolder,
    found: Checkpoint | None,
    config: Config,
    record: Mapping[str, Any],
    allow_change: Sequence[str],
    command: Sequence[str],
    progress: Progress,
) -> None:
    """Bring a resumed run's folder to the step it goes on from: nothing is left that refuses."""
    if found is None:
        progress.say("no checkpoint yet: begun anew with its configuration")
    run.accept(config, record, allow_change, command)
    if found is None:
        return
    for path in checkpoint.set_aside(run.path, found.step):
        progress.say(f"{path}: set aside, it does not verify")
    for reason in found.skipped:
        progress.say(f"skipped: {reason}")
    run.cut_metrics(found.step)


@typed("train")
def rehearse(
    variant: Variant,
    dataset: TrainingSet,
    config: Config,
    *,
    out: Path | str = "runs",
    resume: Path | str | None = None,
    allow_change: Sequence[str] = (),
    ranks: Ranks | None = None,
) -> Config:
    """Find what `fit` with the same arguments would refuse, without writing anything.

    Returns:
        The configuration the run would have, with what was left open.

    Raises:
        as `fit` before its first step.
    """
    ranks = ranks or Ranks()
    config, device = _settle(config, ranks)
    _require_divisible(variant, config, ranks)
    with spread_over(variant, ranks.slabs):
        return _rehearsed(variant, dataset, config, device, Path(out), resume, allow_change)


def _rehearsed(
    variant: Variant,
    dataset: TrainingSet,
    config: Config,
    device: torch.device,
    out: Path,
    resume: Path | str | None,
    allow_change: Sequence[str],
) -> Config:
    if resume is None:
        require_place(out)
        return config
    run = RunFolder(resume)
    with run.locked():
        record = _recorded(dataset, run)
        found = _resumable(run, config, record, allow_change)
        training = Training(variant, dataset, config, run, device, record)
        training.batches.close()
        if found is not None:
            training.restore(found)
    return config


def _settle(config: Config, ranks: Ranks) -> tuple[Config, torch.device]:
    """What the configuration leaves open, settled once: a run resumed elsewhere goes on alike."""
    ranks.split(config.train.split)
    require_divisible(config.train.batch_size, ranks.shard.count, ranks.slabs.count)
    device = resolve(ranks.device(config.train.device))
    config = config.settled().anchored()
    train = config.train
    if train.lr_decay != "none" and train.steps > (train.decay_steps or train.steps):
        raise ConfigError(
            f"train.steps: {train.steps} is beyond train.decay_steps {train.decay_steps}, where "
            f"the learning rate has fallen to zero: give both, and to a resumed run "
            f"--allow-change train.decay_steps"
        )
    config.train.precision = resolve_precision(config.train.precision, device)
    require_graph(config.train.cuda_graph, obstacle_of(device))
    if config.train.tensorboard:
        require_writer()
    return config, device


def _require_divisible(variant: Variant, config: Config, ranks: Ranks) -> None:
    """Raise ConfigError unless ranks and micro-batches compute what one batch would."""
    train, count = config.train, ranks.shard.count
    require_separable(variant, train.batch_size, count)
    if ranks.slabs.count > 1 and (train.micro_batch or train.recompute):
        raise ConfigError(
            "train.split: neither train.micro_batch nor train.recompute works on volumes that "
            "several processes hold; leave them out"
        )
    require_repeatable(variant, recompute=train.recompute)
    Parts(variant, train.batch_size, train.micro_batch, count)


def _recorded(dataset: TrainingSet, run: RunFolder | None) -> dict[str, Any]:
    """The record of the data; whom a run was trained on before stays in it."""
    record = describe(dataset)
    return record if run is None else with_earlier(record, run.data())


def _resumable(
    run: RunFolder, config: Config, record: Mapping[str, Any], allow_change: Sequence[str]
) -> Checkpoint | None:
    """The checkpoint to go on from, if the run may go on with these settings and data.

    None of a run that was killed before its first one: there is nothing to lose.
    """
    run.refuse_changes(config, record, allow_change)
    if run.unbegun():
        return None
    found = checkpoint.newest(run.path)
    run.refuse_changes(config, record, allow_change, found)
    if FINGERPRINT not in allow_change:
        run.require_same_data(found)
    if found.step > config.train.steps:
        raise StateError(
            f"{run.path}: has {found.step} steps behind it, train.steps is {config.train.steps}"
        )
    return found
