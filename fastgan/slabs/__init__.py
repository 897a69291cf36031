"""One volume over several processes: each holds a slab of its planes along the first axis.

Every rank calls the same functions in the same order. A loss that all ranks return counts as the
sum of what each returns, so that messages are closed under differentiation: halo planes and their
adjoint are each other's derivative, a sum over the slabs is its own. Gradients of parameters are
then shares, whose mean over the ranks is the gradient of one process, to any order.
"""

from __future__ import annotations

from fastgan.slabs.exchange import Slabs, averaged, gathered, halo, summed
from fastgan.slabs.networks import require_planes, spread_network
from fastgan.slabs.norm_act import norm_act_of_slabs

__all__ = [
    "Slabs",
    "averaged",
    "gathered",
    "halo",
    "norm_act_of_slabs",
    "require_planes",
    "spread_network",
    "summed",
]
