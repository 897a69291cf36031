"""From a measurement of a few steps to what a whole run takes: plain arithmetic."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from fastgan.config import Config
from fastgan.runs.probe import Measurement

__all__ = ["Prediction", "predict"]

# Seconds of `fastgan audit` on one core of an AVX2 server CPU: of every audit, of reading a voxel,
# of comparing a volume with the others where they are enough to, and of a voxel where there are
# labels to judge. Counted on 48 to 1,470 volumes of 24^3 to 48^3: a guide to a factor of three.
AUDIT_SECONDS, READ_A_VOXEL, COMPARE_A_VOLUME, LABELS_A_VOXEL = 5.0, 0.15e-6, 0.05, 1.2e-6
COMPARED_FROM = 200
"""Real volumes that memorization needs to know chance."""

CONTEXT_BYTES = 600_000_000
"""What CUDA and its libraries hold on a device beside tensors."""


@dataclass(frozen=True)
class Prediction:
    """What a run will take; seconds and bytes."""

    step_seconds: float
    train_seconds: float
    """To the end, with pictures and checkpoints, the data prepared."""
    prepare_seconds: float
    """Of these, reading and preparing the data the first time."""
    volumes_per_second: float
    """Real volumes that the critic consumes."""
    host_bytes: int
    """Peak of the training process."""
    device_bytes: int
    """Peak of tensors on a CUDA device, 0 on the CPU."""
    device_held: int
    """What a CUDA device must have free for it."""
    checkpoints_bytes: int
    """Those kept and one being written."""
    cache_bytes: int
    """Prepared volumes."""
    pictures_bytes: int
    count: int
    """Volumes generated."""
    generate_seconds: float
    generated_bytes: int
    audit_seconds: float
    """Of these volumes, to a factor of three; 0 where it is not known, as of a cyclegan."""

    @property
    def disk_bytes(self) -> int:
        """All of it."""
        parts = (self.checkpoints_bytes, self.cache_bytes, self.pictures_bytes)
        return sum(parts) + self.generated_bytes

    def as_json(self) -> dict[str, float | int]:
        """Everything, JSON-able."""
        return dataclasses.asdict(self) | {"disk_bytes": self.disk_bytes}


def predict(config: Config, measured: Measurement, *, count: int = 100) -> Prediction:
    """What training by `config` and generating `count` volumes take.

    Args:
        config: the one that was measured; its number of steps and intervals may differ.
        measured: of it.
        count: volumes to generate.
    """
    train = config.train
    prepare = prepare_seconds(measured)
    pictures = -(-train.steps // train.sample_every)
    seconds = prepare + fixed_seconds(measured) + train.steps * seconds_a_step(config, measured)
    reals = train.batch_size * (1 if config.translates else config.gan.critic_steps)
    host = measured.host_bytes
    if measured.prepared:
        # Prepared volumes are mapped: each page that was read counts as the process's own.
        draws = train.steps * reals
        touched = measured.volumes * (1.0 - (1.0 - 1.0 / measured.volumes) ** draws)
        host += int(max(touched - 1.0, 0.0) * measured.stored_bytes)
    held = measured.device_held + CONTEXT_BYTES if measured.device_bytes else 0
    every = measured.volumes + measured.heldout
    generated = measured.generate_seconds > 0.0
    return Prediction(
        step_seconds=measured.step_seconds,
        train_seconds=seconds,
        prepare_seconds=prepare,
        volumes_per_second=reals / measured.step_seconds,
        host_bytes=host,
        device_bytes=measured.device_bytes,
        device_held=held,
        checkpoints_bytes=(train.keep_checkpoints + 1) * measured.checkpoint_bytes,
        cache_bytes=every * measured.stored_bytes if measured.prepared else 0,
        pictures_bytes=pictures * measured.picture_bytes,
        count=count if generated else 0,
        generate_seconds=count * measured.generate_seconds,
        generated_bytes=count * measured.written_bytes,
        audit_seconds=audit_seconds(config, every, count) if generated else 0.0,
    )


def audit_seconds(config: Config, known: int, generated: int) -> float:
    """What judging `generated` volumes beside `known` real ones takes, to a factor of three."""
    volumes = known + generated
    voxels = volumes * math.prod(config.data.shape)
    seconds = AUDIT_SECONDS + READ_A_VOXEL * voxels
    if known >= COMPARED_FROM:
        seconds += COMPARE_A_VOLUME * volumes
        seconds += LABELS_A_VOXEL * voxels if config.data.conditional else 0.0
    return seconds


def prepare_seconds(measured: Measurement) -> float:
    """Reading the data for the first time: of files, as many as there are to train on."""
    return measured.open_seconds * (measured.volumes if measured.prepared else 1)


def fixed_seconds(measured: Measurement) -> float:
    """What a run does once: the checkpoint before the first step, and what ends it."""
    return 2.0 * measured.save_seconds + measured.picture_seconds


def seconds_a_step(config: Config, measured: Measurement) -> float:
    """A step with its share of pictures and checkpoints."""
    return (
        measured.step_seconds
        + measured.save_seconds / config.train.checkpoint_every
        + measured.picture_seconds / config.train.sample_every
    )
