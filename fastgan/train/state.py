"""Everything a run must remember, as named tensors, and putting it back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fastgan.errors import StateError
from fastgan.train.checkpoint import Parts

__all__ = ["module_tensors", "restore"]


def module_tensors(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    """Parameters and buffers by module name: the live tensors, not copies.

    Raises:
        StateError: a module keeps state that is not a tensor.
    """
    parts = {name: module.state_dict() for name, module in modules.items()}
    for name, state in parts.items():
        for key, value in state.items():
            if not isinstance(value, Tensor):
                raise StateError(
                    f"{name}.{key}: state must be a tensor, got {type(value).__name__}"
                )
    return parts


def restore(live: Parts, saved: Parts, where: str) -> None:
    """Copy saved tensors into live ones, all of them or none.

    Args:
        live: the tensors to fill, as `save` would be given them.
        saved: parts of a checkpoint.
        where: the checkpoint's path, for errors.

    Raises:
        StateError: a part or tensor is missing, unexpected, or of another shape or dtype; names
            up to eight of them, and nothing was copied.
    """
    wanted, found = _kinds(live), _kinds(saved)
    differences = [f"{key}: missing" for key in wanted if key not in found]
    differences += [f"{key}: unexpected" for key in found if key not in wanted]
    differences += [
        f"{key}: {found[key]} saved, {kind} wanted"
        for key, kind in wanted.items()
        if key in found and found[key] != kind
    ]
    if differences:
        more = f" and {len(differences) - 8} more" if len(differences) > 8 else ""
        raise StateError(
            f"{where}: not the state of this architecture: {'; '.join(differences[:8])}{more}"
        )
    with torch.no_grad():
        for part, tensors in live.items():
            for name, tensor in tensors.items():
                tensor.copy_(saved[part][name])


def _kinds(parts: Parts) -> dict[str, str]:
    return {
        f"{part}/{name}": f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }
