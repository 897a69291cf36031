"""What a plan may give up, one thing at a time, and what giving it up means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fastgan.config import Config
from fastgan.data.bundled import LIDC
from fastgan.errors import ConfigError
from fastgan.models.ladder import build_ladder, folded_shape
from fastgan.runs.stand_in import is_whole

__all__ = ["LEAST_STEPS", "Trade", "trades_for"]

LEAST_STEPS = 1000
"""Below this no network here has been seen to learn anything."""
GOOD_STEPS, ENOUGH_STEPS = 5000, 3000
"""What settings are given up for before size is, and size for before the last ones are."""
SMALLEST_AXIS = 16
Change = Callable[[Config], str | None]


@dataclass(frozen=True)
class Trade:
    """One thing that may be given up.

    Attributes:
        keys: of the configuration, that it changes.
        below: it is given up only while fewer steps than this fit into the time.
        saves_memory: whether it is worth trying where memory is short.
        change: alters a configuration in place and says how, or returns None where it cannot.
    """

    keys: tuple[str, ...]
    below: int
    saves_memory: bool
    change: Change

    @property
    def networks(self) -> bool:
        """Whether it changes the networks, not only how they are trained."""
        return self.keys[0].startswith(("model.", "data."))


def trades_for(device: str) -> list[Trade]:
    """The trades in the order in which they cost least quality for what they save.

    Args:
        device: cpu, where blocks of voxels pay most, or cuda.
    """
    fold = Trade(("model.fold",), GOOD_STEPS, True, _fold)
    gentle = [
        Trade(("gan.critic_steps",), GOOD_STEPS, False, _critic_steps(2)),
        Trade(("train.batch_size",), GOOD_STEPS, True, _batch(8)),
        Trade(("gan.critic_steps",), GOOD_STEPS, False, _critic_steps(1)),
        Trade(("train.batch_size",), GOOD_STEPS, True, _batch(4)),
    ]
    smaller = Trade(("data.shape", "data.spacing", "data.sampling"), ENOUGH_STEPS, True, _smaller)
    last = [
        Trade(("train.batch_size",), LEAST_STEPS, True, _batch(2)),
        Trade(("train.batch_size",), LEAST_STEPS, True, _batch(1)),
    ]
    first = [fold, *gentle] if device == "cpu" else [*gentle, fold]
    # An axis of 512 voxels meets the smallest in twelve of these.
    return [*first, *[smaller] * 12, *last]


def _fold(config: Config) -> str | None:
    if config.model.fold != (1, 1, 1) or any(n % 2 for n in config.data.shape):
        return None
    config.model.fold = (2, 2, 2)
    if not _buildable(config):
        return None
    return (
        "model.fold 1 -> 2: blocks of 2 x 2 x 2 voxels are treated as one with eight channels; "
        "several times faster, and the finest detail is left to one linear layer"
    )


def _critic_steps(most: int) -> Change:
    def change(config: Config) -> str | None:
        steps = config.gan.critic_steps
        if config.translates or steps <= most:
            return None
        config.gan.critic_steps = most
        return (
            f"gan.critic_steps {steps} -> {most}: the critic follows the generator less closely; "
            "watch that its loss does not drift"
        )

    return change


def _batch(most: int) -> Change:
    def change(config: Config) -> str | None:
        size, group = config.train.batch_size, max(config.model.minibatch_stddev, 1)
        least = max(most // group * group, group)
        if least >= size:
            return None
        config.train.batch_size = least
        return f"train.batch_size {size} -> {least}: noisier updates, fewer volumes seen"

    return change


def _smaller(config: Config) -> str | None:
    """About three quarters of each long axis: coarser voxels where that can be, else a patch."""
    old = config.data.shape
    if config.data.source == LIDC:
        if old == (32, 32, 32):
            return None
        config.data.shape = (32, 32, 32)
        return "data.shape 48 -> 32: voxels of 1.5 mm in place of 1 mm"
    for multiple in (8, 16):
        shape = tuple(_shrunk(n, multiple) for n in old)
        config.data.shape = (shape[0], shape[1], shape[2])
        if config.data.shape != old and _buildable(config):
            return _as_patch_or_coarser(config, old)
    return None


def _as_patch_or_coarser(config: Config, old: tuple[int, int, int]) -> str:
    data, shape = config.data, config.data.shape
    sizes = f"data.shape {_text(old)} -> {_text(shape)}"
    if data.sampling == "whole" and data.spacing is not None and not is_whole(data.source):
        factors = [n / m for n, m in zip(old, shape, strict=True)]
        spacing = [round(s * f, 4) for s, f in zip(data.spacing, factors, strict=True)]
        data.spacing = (spacing[0], spacing[1], spacing[2])
        return f"{sizes} at voxels of {_text(spacing)} mm: whole volumes, coarser"
    data.sampling = "patch"
    share = math.prod(shape) / math.prod(old)
    return (
        f"{sizes}, sampling patch: the networks see {share:.0%} of the voxels they saw; for whole "
        "volumes raise data.spacing instead"
    )


def _shrunk(size: int, multiple: int) -> int:
    if size <= SMALLEST_AXIS:
        return size
    smaller = int(0.75 * size) // multiple * multiple
    return max(smaller, SMALLEST_AXIS)


def _buildable(config: Config) -> bool:
    """Whether the stages bring this shape down to a small grid, or translators can halve it."""
    model = config.model
    try:
        folded = folded_shape(config.data.shape, model.fold, "plan")
        if config.translates:
            halvings = 2 ** max(len(model.translator_channels) - 1, 0)
            return all(n % halvings == 0 for n in folded)
        build_ladder(folded, len(model.generator_channels), minimum=3)
        build_ladder(folded, len(model.critic_channels), minimum=2)
    except ConfigError:
        return False
    return True


def _text(sizes: tuple[int, ...] | list[float]) -> str:
    return " x ".join(f"{n:g}" for n in sizes)
