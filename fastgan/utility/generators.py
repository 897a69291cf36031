"""A generator for each training part, which never saw who is tested, and what it draws."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.data.cache import dequantise, quantise
from fastgan.data.formats.array_file import read_npz
from fastgan.data.ledger import refuse_trained
from fastgan.durable import replace_file
from fastgan.errors import AuditError, CorruptFile, NumericsError
from fastgan.guarded import read_plain
from fastgan.random import Draws
from fastgan.train import RunFolder, checkpoint, describe, fit, load_generator
from fastgan.train.build import variant_of
from fastgan.train.progress import Progress
from fastgan.utility.cohort import Cohort, as_files
from fastgan.utility.settings import Study

__all__ = ["Generated", "Make", "checked", "generated_by_gan", "kept", "require_unseen"]

BATCH = 16
"""Volumes drawn at once."""
MOST = 8 << 30


@dataclass(frozen=True)
class Generated:
    """Volumes as files would hold them.

    Attributes:
        values: [M, C, D, H, W] float32 in [-1, 1].
        positive: [M].
    """

    values: Floats
    positive: Bools


Make = Callable[[Study, Cohort, Integers, frozenset[str], Path, int], Generated]
"""Study, cohort, positions to train on, subjects it must not see, a folder, a number for its seed
-> volumes; NumericsError where training diverges."""


def generated_by_gan(
    study: Study,
    cohort: Cohort,
    at: Integers,
    unseen: frozenset[str],
    folder: Path,
    number: int,
) -> Generated:
    """Train the study's GAN on some volumes of the cohort, and draw from it.

    Args:
        study: its `run` section is the configuration of the training.
        cohort: with its data set.
        at: positions to train on.
        unseen: subjects that it must not be trained on.
        folder: for its run; a run that was interrupted there is gone on with.
        number: makes its seed.

    Raises:
        AuditError: one of `unseen` is among whom it trains on, or was trained on.
        NumericsError: it diverged.
    """
    assert cohort.dataset is not None
    require_unseen(cohort, at, unseen)
    dataset = cohort.dataset.subset(at.tolist())
    dataset.held_out = tuple(sorted(unseen))
    settings = study.run.model_copy(deep=True)
    settings.seed = study.seed + number
    settings.name = "generator"
    settings.train.deterministic = True
    settings.train.keep_checkpoints = 1
    variant = variant_of(settings, describe(dataset))
    earlier = sorted(folder.glob(f"*-{settings.name}-seed{settings.seed}"))
    quiet = Progress(settings.train.steps, stream=io.StringIO())
    run = fit(
        variant,
        dataset,
        settings,
        out=folder,
        resume=earlier[-1] if earlier else None,
        command=["fastgan", "utility"],
        progress=quiet,
    )
    refuse_trained(run.data(), sorted(unseen), "tested")
    return _draw(run, study, cohort, at)


def require_unseen(cohort: Cohort, at: Integers, unseen: frozenset[str]) -> None:
    """Raise AuditError if volumes at these positions are of subjects kept for a test."""
    shared = sorted(set(cohort.subjects[at].tolist()) & unseen)
    if shared:
        raise AuditError(
            f"generator: {len(shared)} patients who are tested are among whom it would be trained "
            f"on, first {shared[0]!r}; a gain on them would prove nothing"
        )


def _draw(run: RunFolder, study: Study, cohort: Cohort, at: Integers) -> Generated:
    """As many volumes as the study asks, half of them positive."""
    assert cohort.dataset is not None
    game = load_generator(run, checkpoint.newest(run.path))
    count = max(round(study.synthetic * len(at)), 2)
    target = cohort.dataset.classes.index(study.positive)
    others = np.bincount(cohort.labels[at], minlength=len(cohort.dataset.classes)).astype(float)
    others[target] = 0.0
    draws = Draws(run.config().seed)
    labels = draws.numpy(0, "utility/classes").choice(len(others), count, p=others / others.sum())
    labels[::2] = target
    parts = []
    for begin in range(0, count, BATCH):
        chosen = labels[begin : begin + BATCH]
        rng = draws.numpy(begin, "utility/draw")
        parts.append(game.sample(len(chosen), chosen, rng).float().cpu().numpy())
    return Generated(as_files(np.concatenate(parts), cohort.dataset), labels == target)


def checked(made: Generated, cohort: Cohort) -> Generated:
    """`made`, if it is of the cohort's shape, finite, and of both classes.

    Raises:
        AuditError: another shape, or one class alone.
        NumericsError: a voxel is not finite.
    """
    if made.values.shape[1:] != cohort.values.shape[1:]:
        raise AuditError(
            f"generated volumes have {made.values.shape[1:]} voxels, those of patients "
            f"{cohort.values.shape[1:]}; give the generator the shape of the data"
        )
    if made.positive.all() or not made.positive.any() or len(made.positive) != len(made.values):
        raise AuditError(
            f"generated volumes: {int(made.positive.sum())} of {len(made.values)} are positive; "
            "both classes are needed"
        )
    if not np.isfinite(made.values).all():
        raise NumericsError("generated volumes hold voxels that are not finite")
    return made


def kept(path: Path, cohort: Cohort, make: Callable[[], Generated]) -> Generated:
    """Generated volumes of a file, or made and put there; values in steps of 1/32767.

    Raises:
        CorruptFile: the file is not what was written.
        as `checked`.
    """
    if not path.exists():
        made = checked(make(), cohort)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, values=quantise(made.values), positive=made.positive)
        replace_file(path, buffer.getvalue())
    arrays = read_npz(read_plain(path, MOST), str(path))
    if set(arrays) != {"values", "positive"}:
        raise CorruptFile(f"{path}: not generated volumes; delete it, and they are made anew")
    stored = Generated(dequantise(arrays["values"]), arrays["positive"].astype(bool))
    return checked(stored, cohort)
