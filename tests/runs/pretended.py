"""A machine of known speed in place of every trial."""

from __future__ import annotations

import dataclasses
import math

from fastgan.config import Config
from fastgan.runs.probe import Measurement

GB = 10**9


def made_up(**changes: object) -> Measurement:
    known = Measurement(
        device="cpu",
        steps=3,
        step_seconds=1.0,
        critic_seconds=0.4,
        save_seconds=2.0,
        picture_seconds=3.0,
        generate_seconds=0.5,
        open_seconds=0.25,
        host_bytes=GB,
        device_bytes=0,
        device_held=0,
        checkpoint_bytes=1000,
        picture_bytes=10,
        written_bytes=100,
        stored_bytes=2000,
        volumes=40,
        heldout=10,
        prepared=True,
        cores=2.0,
        load=0.0,
    )
    return dataclasses.replace(known, **changes)


def at_once(config: Config) -> int:
    """Volumes that are held at a time."""
    return min(config.train.micro_batch or config.train.batch_size, config.train.batch_size)


class Machine:
    """Pretends to measure: time and memory grow with voxels, batch and the critic's updates."""

    def __init__(self, voxels_per_second: float = 1e6, bytes_per_voxel: float = 1e3) -> None:
        self.speed, self.bytes = voxels_per_second, bytes_per_voxel
        self.asked: list[Config] = []
        self.slower = 1.0

    def __call__(self, config: Config) -> Measurement:
        self.asked.append(config)
        voxels = math.prod(config.data.shape) / math.prod(config.model.fold)
        update = self.slower * (0.01 + config.train.batch_size * voxels / self.speed)
        return made_up(
            critic_seconds=update,
            step_seconds=update * (config.gan.critic_steps + 1),
            host_bytes=int(3e8 + self.bytes * at_once(config) * voxels),
        )
