"""Weight clipping: every parameter of the critic stays in [-c, c].

The critic's slope is then at most K, which depends on its layers and on c alone, so the game is
one for K W1(P, Q) with K unknown. Clipping a critic of several layers to a small c makes its
slope vanish, to a large c lets it explode (Gulrajani et al. 2017, section 3).

The paper trains with RMSprop. Adam with beta1 = 0 is RMSprop up to the correction of the first
steps' bias, so no second optimiser is needed: betas (0, 0.99), learning rate 5e-5.

Source: Arjovsky et al. 2017, algorithm 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError

__all__ = ["check_clip", "clip_weights"]


@torch.no_grad()
def clip_weights(module: nn.Module, bound: float) -> None:
    """Bring every parameter of `module` into [-bound, bound], in place.

    Cost: reads and writes the parameters once or twice; the host does not wait.
    """
    parameters: list[Tensor] = list(module.parameters())
    torch._foreach_clamp_min_(parameters, -bound)
    torch._foreach_clamp_max_(parameters, bound)


def check_clip(weight_clip: float, penalty: str, *, spectral_norm: bool) -> float:
    """The bound c, 0 for no clipping.

    Args:
        weight_clip: what was asked for.
        penalty: kind of the penalty that is to train the same critic.
        spectral_norm: the critic normalises its weights.

    Raises:
        ConfigError: c is negative or not finite, or the critic's slope is bounded twice.
    """
    if not (math.isfinite(weight_clip) and weight_clip >= 0.0):
        raise ConfigError(f"weight_clip must be >= 0 (0: off) and finite, got {weight_clip}")
    if weight_clip and penalty != "none":
        raise ConfigError(
            f"weight_clip {weight_clip} and penalty {penalty!r} pull the critic towards different "
            "slopes: set penalty 'none' to clip, or weight_clip 0 to penalise"
        )
    if weight_clip and spectral_norm:
        raise ConfigError(
            f"weight_clip {weight_clip} would clip weights that spectral_norm rescales, so it "
            "bounds nothing: set spectral_norm false, or weight_clip 0"
        )
    return weight_clip
