"""Labels of generated volumes: drawn as the real batches' labels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ConfigError

__all__ = ["LabelPrior"]


class LabelPrior:
    """The distribution of the labels the critic sees beside real volumes.

    Labels drawn otherwise (say uniformly, from an unbalanced data set) let the critic win by the
    label alone: its optimum is D = p(c) / (p(c) + q(c)) even for a perfect generator.

    Args:
        classes: names of the K classes; () for an unconditional variant.
        prior: K shares of the training split, in any scale; needed with classes.
        balanced: real batches hold every class equally often; classes of share 0 never occur.

    Raises:
        ConfigError: shares missing, of another length, negative or all zero.
    """

    def __init__(
        self,
        classes: Sequence[str] = (),
        prior: Sequence[float] | np.ndarray | None = None,
        balanced: bool = False,
    ) -> None:
        self.classes = tuple(classes)
        self.shares = np.ones(0)
        if not self.classes:
            return
        if prior is None:
            raise ConfigError(f"prior: the shares of {len(self.classes)} classes are missing")
        shares = np.asarray(prior, dtype=np.float64)
        if shares.shape != (len(self.classes),):
            raise ConfigError(
                f"prior: {len(self.classes)} classes need as many shares, got {list(shares.shape)}"
            )
        if not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() == 0:
            raise ConfigError(f"prior: shares must be >= 0 and not all 0, got {shares.tolist()}")
        if balanced:
            shares = (shares > 0).astype(np.float64)
        self.shares = shares / shares.sum()

    @property
    def num_classes(self) -> int:
        """K, 0 for unconditional."""
        return len(self.classes)

    def draw(self, count: int, rng: np.random.Generator) -> Tensor | None:
        """[count] int64 labels on the CPU; None for unconditional."""
        if not self.classes:
            return None
        return torch.from_numpy(rng.choice(self.num_classes, size=count, p=self.shares))

    def check(self, labels: Any, count: int) -> Tensor | None:
        """Labels a user asked for: one for all, or [count]; as [count] int64 on the CPU.

        Raises:
            ConfigError: labels of an unconditional variant, a wrong number, not whole numbers or
                out of range.
        """
        if not self.classes:
            raise ConfigError("labels given, but the variant was built without classes")
        array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
        if array.dtype.kind not in "iu" or array.shape not in ((), (count,)):
            raise ConfigError(
                f"labels must be whole numbers, one or {count}, got {array.dtype} of shape "
                f"{list(array.shape)}"
            )
        if array.size and (array.min() < 0 or array.max() >= self.num_classes):
            wrong = array.min() if array.min() < 0 else array.max()
            raise ConfigError(
                f"label {wrong} is not in 0..{self.num_classes - 1} ({', '.join(self.classes)})"
            )
        return torch.from_numpy(np.broadcast_to(array, (count,)).astype(np.int64))
