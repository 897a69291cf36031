"""Training: `fit` runs any variant of `fastgan.gans` on any data set, and resumes it exactly."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from fastgan.config import Config
from fastgan.errors import ConfigError, StateError
from fastgan.train import checkpoint
from fastgan.train.device import repeatable, resolve
from fastgan.train.loop import Training
from fastgan.train.precision import resolve_precision
from fastgan.train.progress import Progress
from fastgan.train.run_folder import RunFolder
from fastgan.train.signals import watch_signals
from fastgan.train.tensorboard import require_writer
from fastgan.train.views import kept_views

__all__ = [
    "RunFolder",
    "checkpoint",
    "describe",
    "fit",
    "load_generator",
    "load_translator",
    "require_generator",
]

DIRECTIONS = {"A_to_B": "G_AB", "B_to_A": "G_BA"}


def fit(
    variant: Any,
    dataset: Any,
    config: Config | None = None,
    *,
    out: Path | str = "runs",
    resume: Path | str | None = None,
    allow_change: Sequence[str] = (),
    command: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> RunFolder:
    """Train `variant` on `dataset` and leave everything in a run folder.

    SIGTERM and SIGINT finish the step, save, and end in SystemExit(143) or KeyboardInterrupt; a
    second signal ends the process at once.

    Args:
        variant: a `fastgan.gans` variant; trained in place, with its live (not averaged) weights.
        dataset: a `fastgan.data.Dataset`.
        config: steps, batch size and the rest; the defaults, or on resume the run's own.
        out: folder under which a new, numbered run folder is made.
        resume: a run folder to go on with, from its newest checkpoint that verifies.
        allow_change: dotted keys in which a resumed run may differ from what it was.
        command: what to record as the command line; by default this process's.
        progress: where to report; by default a bar or lines on standard error.

    Returns:
        The run folder.

    Raises:
        ConfigError: a setting that cannot work here, such as a device that is not there.
        StateError: the run is in use, differs in other keys, or holds no usable checkpoint.
        NumericsError: NaN or infinity under policy `stop`; checkpoints are as before that step.
        ResourceLimit, BadFile, CorruptFile: memory or disk; a save that fails is never ignored.

    Deterministic: with `train.deterministic`, also across kill and resume, on one machine.
    """
    command = sys.argv if command is None else command
    run = None if resume is None else RunFolder(resume)
    config = config or (run.config() if run else Config())
    device = resolve(config.train.device)
    # Settled once, so that a run resumed elsewhere computes as it began.
    config = config.model_copy(deep=True)
    config.train.precision = resolve_precision(config.train.precision, device)
    if config.train.tensorboard:
        require_writer()
    record = describe(dataset)
    with ExitStack() as stack:
        if run is None:
            run = RunFolder.create(out, config, record, command)
            stack.enter_context(run.locked())
            found = None
        else:
            stack.enter_context(run.locked())
            run.accept(config, record, allow_change, command)
            found = checkpoint.newest(run.path)
            if found.step > config.train.steps:
                raise StateError(
                    f"{run.path}: has {found.step} steps behind it, train.steps is "
                    f"{config.train.steps}"
                )
        threads = found.counters.get("threads") if found and config.train.deterministic else None
        stack.enter_context(repeatable(config.train.deterministic, threads))
        training = Training(variant, dataset, config, run, device)
        stack.callback(training.batches.close)
        if progress is None:
            progress = Progress(config.train.steps, found.step if found else 0)
        stack.enter_context(progress)
        progress.say(f"run folder: {run.path}")
        if found is not None:
            training.restore(found)
            for path in checkpoint.set_aside(run.path, found.step):
                progress.say(f"{path}: set aside, it does not verify")
            for reason in found.skipped:
                progress.say(f"skipped: {reason}")
            run.cut_metrics(found.step)
        interruption = stack.enter_context(watch_signals())
        refresh = stack.enter_context(kept_views(training, interruption, progress.say))
        training.train(progress, interruption, refresh)
        if interruption:
            number, step = interruption.signal, training.steps_done
            progress.say(f"stopped by signal {number} after {step} steps")
    interruption.leave()
    return run


def describe(dataset: Any) -> dict[str, Any]:
    """What a run folder records of a data set, as JSON values (data.json).

    Of two unpaired sets: that of domain A, and under "b" that of domain B; the fingerprint of A's
    record covers both.
    """
    items = getattr(dataset, "items", [])
    other = getattr(dataset, "b", None)
    return {
        "fingerprint": dataset.fingerprint,
        "volumes": len(dataset),
        "shape": [int(size) for size in dataset.shape],
        "channels": int(dataset.channels),
        "spacing": [float(size) for size in dataset.spacing],
        "classes": list(dataset.classes),
        "prior": [float(share) for share in dataset.prior],
        "modalities": sorted({str(item.modality) for item in items}),
        "normalisation": dataset.normalisation,
    } | ({} if other is None else {"b": describe(other)})


def load_generator(variant: Any, found: checkpoint.Checkpoint) -> None:
    """Fill the averaged modules of a variant (its generators) from a checkpoint.

    Raises:
        StateError: the checkpoint is of another architecture; nothing is changed.
    """
    from fastgan.train.state import module_tensors, restore

    live = module_tensors({name: variant.modules[name] for name in variant.ema_of})
    saved = {name: found.parts.get(f"ema.{name}", {}) for name in live}
    restore(live, saved, str(found.path))
    for name in live:
        variant.modules[name].eval()


def load_translator(folder: RunFolder, found: checkpoint.Checkpoint, direction: str) -> nn.Module:
    """The averaged translator of a cyclegan's run, in evaluation mode on the CPU.

    What it takes is in `folder.data()`: shape, spacing, normalisation and modalities of domain A,
    and under "b" those of domain B.

    Args:
        folder: the run.
        found: one of its checkpoints.
        direction: "A_to_B" | "B_to_A".

    Returns:
        A `fastgan.models.Translator`: [B, C, D, H, W] in [-1, 1] of one domain to the other, for
        any D, H, W that its `stride` divides; made for windows of the run's shape.

    Raises:
        ConfigError: an unknown direction, or the run is no cyclegan.
        StateError: the checkpoint is of another architecture.
    """
    from fastgan.nn.choices import check_choice
    from fastgan.train.build import CYCLEGAN, variant_of

    check_choice("direction", direction, DIRECTIONS)
    config = folder.config()
    if config.gan.variant != CYCLEGAN:
        raise ConfigError(
            f"{folder.path}: its gan.variant is {config.gan.variant!r}, which translates nothing; "
            "use fastgan generate"
        )
    variant = variant_of(config, folder.data())
    load_generator(variant, found)
    return variant.modules[DIRECTIONS[direction]]


def require_generator(folder: RunFolder) -> None:
    """Refuse a run whose networks draw nothing from latents.

    Raises:
        ConfigError: it is a cyclegan; says what to use.
    """
    from fastgan.train.build import CYCLEGAN

    if folder.config().gan.variant == CYCLEGAN:
        raise ConfigError(
            f"{folder.path}: a cyclegan draws no volumes, it translates given ones: use "
            f"fastgan translate --run {folder.path}"
        )
