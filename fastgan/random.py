"""Random draws that are a function of (run seed, step, purpose) and of nothing else.

A counter-based generator (Philox) needs no state between steps, so a resumed run repeats an
uninterrupted one bit for bit, on any device: draws are made on the host in NumPy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["WHOLE", "Draws", "Shard", "placed", "placed_together"]

ALIGNMENT = 256
"""Bytes at which a tensor begins in a block: what a GPU's allocator gives, too."""


class Shard:
    """The rows of every batch that this process computes: one of `count` equal parts, in order.

    Whoever draws for a batch draws for the whole of it and takes these rows, so that processes
    together compute what one would. This one is the whole batch; `fastgan.train.ranks` has others.

    Args:
        index: which part, from 0.
        count: of parts.
    """

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count

    def of(self, drawn: Tensor, batches: int = 1) -> Tensor:
        """The own rows of what was drawn for whole batches.

        Args:
            drawn: [batches * B, ...], such as real volumes and then generated ones.
            batches: B is a multiple of `count`.

        Returns:
            [batches * B / count, ...]; `drawn` itself where there is one part.
        """
        if self.count == 1:
            return drawn
        parts = torch.unflatten(drawn, 0, (batches, self.count, -1))
        return parts[:, self.index].flatten(0, 1)

    def part(self, part: Shard) -> Shard:
        """A part of these rows, as rows of the whole batch."""
        if part.count == 1:
            return self
        return Shard(self.index * part.count + part.index, self.count * part.count)

    def gather(self, own: Tensor) -> Tensor:
        """The rows of all parts, [B, ...], of everybody's own [B / count, ...]; not differentiable.

        Every process asks for it at the same place.
        """
        return own


WHOLE = Shard()
"""All of a batch, or of whatever else would be divided."""


class Draws:
    """All random numbers of one run.

    Args:
        seed: the run's seed, 0 <= seed < 2^64.
        shard: the rows of a batch that this process takes; None: all of them.

    Cost: about 10 us to open a stream. Two purposes, or two steps, never share a stream.

    >>> Draws(0).normal(step=3, purpose="latent", shape=(2, 4)).shape
    torch.Size([2, 4])
    """

    def __init__(self, seed: int, shard: Shard | None = None) -> None:
        self.seed = int(seed)
        self.shard = shard or Shard()

    def numpy(self, step: int, purpose: str) -> np.random.Generator:
        """A NumPy generator for `purpose` (any text) at `step` (>= 0)."""
        digest = hashlib.blake2b(purpose.encode(), digest_size=8).digest()
        key = np.array([self.seed, int.from_bytes(digest, "little")], dtype=np.uint64)
        # The lowest counter word advances with the draws, so the step sits in a higher one.
        counter = np.array([0, 0, step, 0], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def torch_generator(self, step: int, purpose: str) -> torch.Generator:
        """A torch CPU generator, seeded from the stream of `purpose` at `step`."""
        seed = int(self.numpy(step, purpose).integers(0, 2**63))
        return torch.Generator().manual_seed(seed)

    def normal(self, step: int, purpose: str, shape: Sequence[int]) -> Tensor:
        """Standard normal float32 CPU tensor of `shape`."""
        return torch.from_numpy(self.numpy(step, purpose).standard_normal(shape, dtype=np.float32))


def placed(drawn: Tensor, device: torch.device) -> Tensor:
    """`drawn`, which was made on the host, on `device`; the host waits for no copy to a GPU.

    From pageable memory it would: the driver first copies to a buffer of its own.
    """
    if device.type != "cuda" or drawn.device.type != "cpu":
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)


def placed_together(drawn: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Tensors of the host on `device`, by name; to a GPU in one copy that nothing waits for.

    They are packed into a block of pinned memory, which is copied beside the kernels that run;
    those launched from now on find it there. On a CPU they are what they were.
    """
    if device.type == "cpu":
        return dict(drawn)
    places, size = {}, 0
    for name, tensor in drawn.items():
        places[name] = slice(size, size + tensor.nbytes)
        size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    block = torch.empty(size, dtype=torch.uint8)
    for name, tensor in drawn.items():
        block[places[name]] = tensor.contiguous().view(-1).view(torch.uint8)
    there = _beside(block, device)
    return {
        name: there[places[name]].view(tensor.dtype).view(tensor.shape)
        for name, tensor in drawn.items()
    }


def _beside(block: Tensor, device: torch.device) -> Tensor:
    """The block on the device, copied on a stream of its own."""
    if device.type != "cuda":
        return block.to(device)
    current = torch.cuda.current_stream(device)
    with torch.cuda.stream(_stream_of_copies(device)):
        there = block.pin_memory().to(device, non_blocking=True)
    current.wait_stream(_stream_of_copies(device))
    # Its memory belongs to the stream of copies, which would else give it away too early.
    there.record_stream(current)
    return there


@cache
def _stream_of_copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
