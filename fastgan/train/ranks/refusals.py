"""What several processes would compute otherwise than one, refused before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import cast

from torch.nn.modules.batchnorm import _BatchNorm

from fastgan.errors import ConfigError
from fastgan.gans import Variant
from fastgan.slabs import Slabs

__all__ = ["batch_norms", "require_divisible", "require_separable", "spread_over"]


def require_divisible(batch_size: int, count: int, slabs: int = 1) -> None:
    """Raise ConfigError unless `count` ranks, or sets of so many, can share a batch evenly."""
    if batch_size % count == 0:
        return
    fitting = [n for n in range(1, batch_size + 1) if batch_size % n == 0 and n <= 2 * count]
    who = f"{count} ranks" if slabs == 1 else f"{count} sets of {slabs} ranks"
    processes = ", ".join(str(n * slabs) for n in fitting)
    raise ConfigError(
        f"train.batch_size: {batch_size} volumes cannot be shared evenly by {who}; give a multiple "
        f"of {count}, or start one of {processes} processes"
    )


def spread_over(variant: Variant, slabs: Slabs) -> AbstractContextManager[None]:
    """Inside, the variant trains on slabs.

    Raises:
        ConfigError: it cannot.
    """
    if slabs.count == 1:
        return nullcontext()
    spread = getattr(variant, "spread", None)
    if spread is None:
        raise ConfigError(
            f"train.split: {type(variant).__name__} does not say how volumes are split: it has no "
            "`spread`"
        )
    return cast(AbstractContextManager[None], spread(slabs))


def require_separable(variant: Variant, batch_size: int, count: int) -> None:
    """Raise ConfigError where volumes of different ranks would see each other, or draws repeat."""
    if count == 1:
        return
    if not getattr(variant, "sharded", False):
        raise ConfigError(
            f"{type(variant).__name__} cannot be trained by {count} ranks: it does not say "
            "`sharded`, that it takes the rows of `draws.shard` of all it draws; start one process"
        )
    own = batch_size // count
    for module in variant.modules.values():
        group = getattr(module, "group", 0)
        if isinstance(group, int) and group and own % group:
            raise ConfigError(
                f"model.minibatch_stddev: groups of {group} volumes would straddle ranks of {own} "
                f"volumes each; give a train.batch_size that is a multiple of {group * count}, or "
                "a smaller group"
            )
    for path, layer in batch_norms(variant):
        raise ConfigError(
            f"{path}: {layer} takes its statistics from the volumes of one rank alone; use "
            "instance, group or layer norm"
        )


def batch_norms(variant: Variant) -> Iterator[tuple[str, str]]:
    """Path and class of every layer whose statistics are those of a batch."""
    for name, module in variant.modules.items():
        for path, layer in module.named_modules():
            if isinstance(layer, _BatchNorm):
                yield f"{name}.{path}", type(layer).__name__
