"""A pass through a network that keeps its input alone, and is made again for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fastgan.errors import ConfigError

__all__ = ["notes_of", "recomputed", "restore_notes"]


def recomputed(network: nn.Module, *inputs: Tensor | None) -> Tensor:
    """`network(*inputs)`, whose activations are computed again when its gradient is asked for.

    Args:
        network: a function of its inputs, parameters and buffers alone; one tensor comes out. What
            it notes in its buffers, as spectral norm does, it notes in the first pass.
        inputs: its arguments.

    Returns:
        What the network returns, bit for bit.

    Raises:
        ConfigError: from the backward pass, where a second derivative is to follow, as of a
            gradient penalty. Such a pass has to be an ordinary one: its gradient is a graph, which
            would keep the activations again.

    Derivatives: one, the network's own to the bit, in the inputs and the parameters.
    Deterministic: as the network.
    Cost: a further forward pass. Between the passes the inputs are kept, and copies of the buffers.

    >>> x = torch.ones(1, 1, 2, 2, 2, requires_grad=True)
    >>> recomputed(nn.Conv3d(1, 1, 2), x).sum().backward()
    >>> x.grad.shape
    torch.Size([1, 1, 2, 2, 2])
    """
    parameters = dict(network.named_parameters())
    tensors = [*(x for x in inputs if x is not None), *parameters.values()]
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors):
        plain: Tensor = network(*inputs)
        return plain
    y: Tensor = _Recomputed.apply(_Pass(network, list(parameters), inputs), *tensors)  # type: ignore[no-untyped-call]
    return y


def notes_of(network: nn.Module) -> list[Tensor]:
    """Copies of what a network notes in a pass, such as the vectors of spectral norm."""
    return [buffer.clone() for buffer in network.buffers()]


def restore_notes(network: nn.Module, notes: Sequence[Tensor]) -> None:
    """Let a network have the notes that it had, so that it is the same function again."""
    with torch.no_grad():
        for buffer, copy in zip(network.buffers(), notes, strict=True):
            buffer.copy_(copy)


class _Pass:
    """What a pass depends on beside tensors that have gradients."""

    def __init__(
        self, network: nn.Module, names: list[str], inputs: Sequence[Tensor | None]
    ) -> None:
        self.network, self._names = network, names
        self._given = [x is not None for x in inputs]
        self._buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        self._device = next(network.parameters()).device.type
        self._autocast = torch.is_autocast_enabled(self._device)
        self._dtype = torch.get_autocast_dtype(self._device)

    def inputs(self, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """The arguments of the network, from all tensors."""
        there = iter(tensors)
        return [next(there) if given else None for given in self._given]

    def again(self, tensors: Sequence[Tensor]) -> Tensor:
        """The pass with these inputs and parameters; the network's buffers stay what they are."""
        parameters = tensors[sum(self._given) :]
        buffers = {name: buffer.clone() for name, buffer in self._buffers.items()}
        state = dict(zip(self._names, parameters, strict=True)) | buffers
        with self._precision():
            y: Tensor = functional_call(self.network, state, tuple(self.inputs(tensors)))
        return y

    def _precision(self) -> AbstractContextManager[Any]:
        # The cache would keep casts of what has no second life.
        return torch.autocast(
            self._device, dtype=self._dtype, enabled=self._autocast, cache_enabled=False
        )


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, through: _Pass, *tensors: Tensor) -> Tensor:
        ctx.through = through
        ctx.save_for_backward(*tensors)
        y: Tensor = through.network(*through.inputs(tensors))
        return y

    @staticmethod
    def backward(ctx: Any, g_y: Tensor) -> tuple[Tensor | None, ...]:
        # With create_graph. What comes out has no graph, so a penalty of it would train nothing.
        if torch.is_grad_enabled():
            raise ConfigError(
                "recomputed: a pass that is computed again has no second derivative; call the "
                "network itself where a penalty differentiates its gradient"
            )
        wanted = ctx.needs_input_grad[1:]
        leaves = [
            tensor.detach().requires_grad_(needed)
            for tensor, needed in zip(ctx.saved_tensors, wanted, strict=True)
        ]
        with torch.enable_grad():
            y = ctx.through.again(leaves)
        asked = [leaf for leaf, needed in zip(leaves, wanted, strict=True) if needed]
        found = iter(torch.autograd.grad(y, asked, g_y, allow_unused=True))
        return None, *(next(found) if needed else None for needed in wanted)
