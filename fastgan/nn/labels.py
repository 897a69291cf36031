"""The one check of class labels at the door of a network."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.errors import ConfigError

__all__ = ["check_labels"]


def check_labels(where: str, labels: Tensor | None, num_classes: int, batch: int) -> None:
    """Refuse labels that do not fit the network.

    Args:
        where: name for the error, e.g. "critic".
        labels: [B] int64 in [0, num_classes), or None.
        num_classes: 0 for an unconditional network.
        batch: B of the other input.

    Raises:
        ConfigError: labels for an unconditional network, none for a conditional one, or a wrong
            dtype, shape or value. Values are looked at on the CPU only: on a GPU that would stop
            the stream.
    """
    if num_classes == 0:
        if labels is not None:
            raise ConfigError(f"{where}: labels given, but it was built without classes")
        return
    if labels is None:
        raise ConfigError(f"{where}: labels are missing, it was built for {num_classes} classes")
    if labels.dtype != torch.int64 or labels.shape != (batch,):
        raise ConfigError(
            f"{where}: labels must be int64 of shape [{batch}], "
            f"got {labels.dtype} of shape {list(labels.shape)}"
        )
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or batch == 0:
        return
    values = labels.detach().numpy()
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise ConfigError(f"{where}: label {wrong} is not in 0..{num_classes - 1}")
