"""What a plan may give up, one thing at a time, and what having given it up means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fastgan.config import Config, DataConfig
from fastgan.data.bundled import LIDC
from fastgan.errors import ConfigError
from fastgan.models.ladder import build_ladder, folded_shape
from fastgan.runs.stand_in import is_whole
from fastgan.train.parts import part_sizes

__all__ = ["LEAST_STEPS", "Trade", "buildable", "given_up", "trades_for"]

LEAST_STEPS = 1000
"""Below this no network here has been seen to learn anything."""
GOOD_STEPS, ENOUGH_STEPS = 5000, 3000
"""What settings are given up for before size is, and size for before the last ones are."""
NEVER = 0
"""Of what takes time, and is done for memory alone."""
SMALLEST_AXIS = 16
Change = Callable[[Config], bool]


@dataclass(frozen=True)
class Trade:
    """One thing that may be given up.

    Attributes:
        keys: of the configuration, that it changes.
        below: it is given up only while fewer steps than this fit into the time.
        saves_memory: whether it is worth trying where memory is short.
        change: alters a configuration in place, or returns False where it cannot.
    """

    keys: tuple[str, ...]
    below: int
    saves_memory: bool
    change: Change

    @property
    def networks(self) -> bool:
        """Whether it changes the networks, not only how they are trained."""
        return self.keys[0].startswith(("model.", "data.", "train.recompute"))


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
    # The same updates for less memory: they cost time alone.
    free = [
        Trade(("train.micro_batch",), NEVER, True, _micro_batch),
        Trade(("train.recompute",), NEVER, True, _recompute),
    ]
    # An axis of 512 voxels meets the smallest in twelve of these.
    return [*free, *first, *[smaller] * 12, *last]


def given_up(wish: Config, plan: Config) -> list[str]:
    """One sentence for each difference: from what to what, and what that means."""
    said = []
    if wish.train.precision != plan.train.precision:
        change = f"train.precision {wish.train.precision} -> {plan.train.precision}"
        said.append(f"{change}: this device multiplies bfloat16 faster")
    if wish.model.fold != plan.model.fold:
        said.append(
            "model.fold 1 -> 2: blocks of 2 x 2 x 2 voxels are treated as one with eight channels; "
            "several times faster, and the finest detail is left to one linear layer"
        )
    if wish.gan.critic_steps != plan.gan.critic_steps:
        change = f"gan.critic_steps {wish.gan.critic_steps} -> {plan.gan.critic_steps}"
        said.append(f"{change}: the critic follows less closely; watch that its loss stays steady")
    if wish.train.batch_size != plan.train.batch_size:
        change = f"train.batch_size {wish.train.batch_size} -> {plan.train.batch_size}"
        said.append(f"{change}: noisier updates, fewer volumes seen")
    if wish.train.micro_batch != plan.train.micro_batch:
        before, after = (c.train.micro_batch or c.train.batch_size for c in (wish, plan))
        said.append(
            f"train.micro_batch {before} -> {after}: the same updates to rounding, {after} volumes "
            "at a time"
        )
    if wish.train.recompute != plan.train.recompute:
        said.append("train.recompute off -> on: the same updates to rounding, more slowly")
    if wish.data.shape != plan.data.shape:
        said.append(_smaller_sentence(wish, plan))
    if wish.train.steps != plan.train.steps:
        said.append(
            f"train.steps {wish.train.steps} -> {plan.train.steps}: as many as the time holds; "
            "look at the pictures before believing that it is enough"
        )
    return said


def _smaller_sentence(wish: Config, plan: Config) -> str:
    shape, spacing = plan.data.shape, plan.data.spacing
    change = f"data.shape {_text(wish.data.shape)} -> {_text(shape)}"
    if spacing is not None and spacing != wish.data.spacing:
        return f"{change} at voxels of {_text(spacing)} mm: whole volumes, coarser"
    if plan.data.sampling == "whole":
        return f"{change}: whole volumes, coarser"
    share = math.prod(shape) / math.prod(wish.data.shape)
    return (
        f"{change}, sampling patch: the networks see {share:.0%} of the voxels they saw; for whole "
        "volumes raise data.spacing instead"
    )


def _fold(config: Config) -> bool:
    if config.model.fold != (1, 1, 1) or any(n % 2 for n in config.data.shape):
        return False
    config.model.fold = (2, 2, 2)
    return buildable(config)


def _critic_steps(most: int) -> Change:
    def change(config: Config) -> bool:
        if config.translates or config.gan.critic_steps <= most:
            return False
        config.gan.critic_steps = most
        return True

    return change


def _batch(most: int) -> Change:
    def change(config: Config) -> bool:
        group = max(config.model.minibatch_stddev, 1)
        size = max(most // group * group, group)
        if size >= config.train.batch_size:
            return False
        config.train.batch_size = size
        if size % (config.train.micro_batch or 1):
            config.train.micro_batch = None
        return True

    return change


def _micro_batch(config: Config) -> bool:
    """At most half of the volumes that pass through the networks at once."""
    train = config.train
    if max(train.split) > 1:
        # Slabs are trained whole batches at a time.
        return False
    sizes = part_sizes(train.batch_size, config.model.minibatch_stddev)
    now = min(train.micro_batch or train.batch_size, train.batch_size)
    smaller = [size for size in sizes if 2 * size <= now]
    if not smaller:
        return False
    train.micro_batch = smaller[-1]
    return True


def _recompute(config: Config) -> bool:
    if config.train.recompute or max(config.train.split) > 1:
        return False
    config.train.recompute = True
    return True


def _smaller(config: Config) -> bool:
    """About three quarters of each long axis: coarser voxels where that can be, else a patch."""
    old = config.data.shape
    if config.data.source == LIDC:
        config.data.shape = (32, 32, 32)
        return old != config.data.shape
    for multiple in (8, 16):
        d, h, w = (_shrunk(n, multiple) for n in old)
        config.data.shape = (d, h, w)
        if config.data.shape != old and buildable(config):
            _coarser_or_patch(config.data, old)
            return True
    return False


def _coarser_or_patch(data: DataConfig, old: tuple[int, int, int]) -> None:
    if data.sampling == "whole" and data.spacing is not None and not is_whole(data.source):
        factors = [n / m for n, m in zip(old, data.shape, strict=True)]
        d, h, w = (round(s * f, 4) for s, f in zip(data.spacing, factors, strict=True))
        data.spacing = (d, h, w)
    else:
        data.sampling = "patch"


def _shrunk(size: int, multiple: int) -> int:
    if size <= SMALLEST_AXIS:
        return size
    smaller = int(0.75 * size) // multiple * multiple
    return max(smaller, SMALLEST_AXIS)


def buildable(config: Config) -> bool:
    """Whether the stages bring this shape down to a small grid, or translators can halve it."""
    model = config.model
    try:
        folded = folded_shape(config.data.shape, model.fold, "plan")
        if config.translates:
            halvings = 2 ** max(len(model.translator_channels) - 1, 0)
            return all(n >= halvings for n in folded)
        build_ladder(folded, len(model.generator_channels), minimum=3)
        build_ladder(folded, len(model.critic_channels), minimum=2)
    except ConfigError:
        return False
    return True


def _text(sizes: tuple[float, ...]) -> str:
    return " x ".join(f"{n:g}" for n in sizes)
