"""What a network consists of, for people."""

from __future__ import annotations

from torch import nn

__all__ = ["describe", "parameter_count"]


def parameter_count(module: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(p.numel() for p in module.parameters())


def describe(module: nn.Module) -> str:
    """One line for the module and one for each child that has parameters.

    >>> print(describe(nn.Sequential(nn.Linear(3, 2), nn.ReLU())))
    Sequential: 8 parameters
      0: 8
    """
    lines = [f"{type(module).__name__}: {parameter_count(module):,} parameters"]
    for name, child in module.named_children():
        parts = child.named_children() if isinstance(child, nn.ModuleList) else [("", child)]
        for index, part in parts:
            if count := parameter_count(part):
                lines.append(f"  {name}{index and f'.{index}'}: {count:,}")
    return "\n".join(lines)
