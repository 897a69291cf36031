"""A history of generated volumes, so that a critic does not forget what it has seen through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.random import Shard

__all__ = ["Pool"]


class Pool(nn.Module):
    """The last `size` or so volumes of a generator; its contents are buffers, so checkpoints hold
    them and a resumed run goes on with the same ones.

    Args:
        size: volumes kept; 0 hands every volume through.
        shape: (C, D, H, W) of a volume.

    Cost: size * C * D * H * W * 4 bytes, on the device and in every checkpoint.

    Source: Shrivastava et al. 2017, "Learning from simulated and unsupervised images through
        adversarial training", section 2.3; Zhu et al. 2017, section 4.
    """

    volumes: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: Sequence[int]) -> None:
        super().__init__()
        if size < 0:
            raise ConfigError(f"pool_size: must be >= 0, got {size}")
        self.size = size
        self.register_buffer("volumes", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(
        self, fresh: Tensor, rng: np.random.Generator, shard: Shard | None = None
    ) -> Tensor:
        """Hand in new volumes, get as many to show the critic.

        Until the pool is full each volume is kept and shown. Then with probability 1/2 it is
        shown and not kept, else it takes the place of a random older one, which is shown.

        Args:
            fresh: [B, C, D, H, W], handled one after the other.
            rng: two draws per volume, whatever becomes of it; the device is never waited for.
            shard: what `fresh` is of a batch. All of it is handed in, so that every process has the
                same pool; None: `fresh` is the batch.

        Returns:
            [B, C, D, H, W] in the dtype of fresh, values that are not finite replaced: the pool
            outlives the step that a NaN is skipped in.
        """
        if self.size == 0:
            return fresh
        shard = shard or Shard()
        fresh = shard.gather(fresh)
        shown = []
        for volume in torch.nan_to_num(fresh.to(self.volumes.dtype), 0.0, 1.0, -1.0):
            swap, place = bool(rng.random() < 0.5), int(rng.integers(self.size))
            room = self.filled < self.size
            at = torch.where(room, self.filled, place).reshape(1)
            older = self.volumes.index_select(0, at)[0]
            kept = volume if swap else torch.where(room, volume, older)
            shown.append(torch.where(room, volume, older) if swap else volume)
            self.volumes.index_copy_(0, at, kept[None])
            self.filled += room
        return shard.of(torch.stack(shown)).to(fresh.dtype)
