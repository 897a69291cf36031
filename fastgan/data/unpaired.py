"""Two unpaired data sets, as a CycleGAN draws from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from fastgan.data.assembly import SPACING_TOLERANCE
from fastgan.data.dataset import Batch, Dataset
from fastgan.data.sources import open_dataset
from fastgan.errors import ConfigError, FastganError
from fastgan.guarded import typed
from fastgan.random import Shard

if TYPE_CHECKING:
    from fastgan.config import DataConfig

__all__ = ["Unpaired", "UnpairedBatch", "domain_b", "open_unpaired"]


@dataclass(frozen=True)
class UnpairedBatch(Batch):
    """Real volumes of one step, of domain A in `volumes`.

    Attributes:
        index: [B, 2] int64 positions in the data sets of A and B.
        volumes_b: [B, C, D, H, W] of domain B, drawn independently, like volumes.
    """

    volumes_b: Tensor


class Unpaired:
    """Domain A and domain B. As a data set it has the properties of A; `b` has its own.

    Args:
        a, b: the two domains, without classes.

    Raises:
        ConfigError: shape, channels or spacing differ, or one draws labels.
    """

    def __init__(self, a: Dataset, b: Dataset) -> None:
        for what in ("shape", "channels"):
            if getattr(a, what) != getattr(b, what):
                raise ConfigError(
                    f"data.source_b: {what} {getattr(b, what)}, domain A has {getattr(a, what)}; "
                    "translators need the same on both sides"
                )
        if not np.allclose(a.spacing, b.spacing, rtol=SPACING_TOLERANCE):
            raise ConfigError(
                f"data.source_b: spacing {_mm(b.spacing)}, domain A has {_mm(a.spacing)}; set "
                "data.spacing to bring both to one"
            )
        if a.classes or b.classes:
            raise ConfigError("data.conditional: a cyclegan has no classes")
        self.a, self.b = a, b
        self.shape, self.channels, self.spacing = a.shape, a.channels, a.spacing
        self.classes, self.prior = a.classes, a.prior
        self.items, self.normalisation = a.items, a.normalisation
        both = f"{a.fingerprint} {b.fingerprint}"
        self.fingerprint = hashlib.sha256(both.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.a)

    def sample(
        self, batch_size: int, rng: np.random.Generator, shard: Shard | None = None
    ) -> UnpairedBatch:
        """`batch_size` volumes of each domain, drawn independently and with replacement.

        With `shard`, only its rows are read; `index` is the whole batch's.
        """
        from_a = self.a.sample(batch_size, rng, shard)
        from_b = self.b.sample(batch_size, rng, shard)
        index = from_a.index.new_empty((batch_size, 2))
        index[:, 0], index[:, 1] = from_a.index, from_b.index
        return UnpairedBatch(from_a.volumes, None, index, from_b.volumes)


@typed("the data")
def open_unpaired(
    config: DataConfig, split: Literal["train", "holdout"], *, cache_dir: Path | None = None
) -> Unpaired:
    """One split of both domains; each splits its own subjects.

    Args:
        config: `source`, `suffix`, `modality` and `window` are of domain A; `source_b`, `suffix_b`,
            `modality_b` and `window_b` of domain B; the rest holds for both.
        split: train | holdout.
        cache_dir: see `open_dataset`.

    Raises:
        ConfigError, BadFile and its kinds: as `open_dataset`, naming data.source_b where domain B
            is meant; or the domains do not fit each other.
    """
    of_b = domain_b(config)
    a = open_dataset(config, split, cache_dir=cache_dir)
    try:
        b = open_dataset(of_b, split, cache_dir=cache_dir)
    except FastganError as error:
        # The error speaks of data.source, data.window, ...: say whose.
        raise type(error)(f"domain B (data.source_b {config.source_b}): {error}") from error
    return Unpaired(a, b)


def domain_b(config: DataConfig) -> DataConfig:
    """The configuration of domain B as that of a set of its own.

    Raises:
        ConfigError: it names no domain B.
    """
    if config.source_b is None:
        raise ConfigError("data.source_b: missing; domain B of two unpaired sets")
    own: dict[str, Any] = {
        "source": config.source_b,
        "suffix": config.suffix_b,
        "modality": config.modality_b,
        "window": config.window_b,
    }
    return config.model_copy(update=own)


def _mm(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{size:.4g}" for size in spacing) + " mm"
