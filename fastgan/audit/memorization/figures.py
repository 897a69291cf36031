"""These are the pictures of the judgement of memorization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit.evidence import Evidence
from fastgan.audit.judgement import Figure
from fastgan.audit.likeness.copy_search import Found
from fastgan.audit.likeness.moves import mirrored
from fastgan.audit.memorization.power import THIRDS, CopyPower
from fastgan.audit.memorization.search import Searched
from fastgan.pictures.canvas import canvas, png
from fastgan.pictures.surfaces import shaded_surface

__all__ = ["flagged_pairs", "ratios_and_power"]

_PAIRS = 6


def ratios_and_power(r: Floats, null: Floats, power: CopyPower | None) -> tuple[Figure, ...]:
    """Ratios of generated volumes over those that are no copies; power by noise where measured."""
    columns = 2 if power is not None and power.noise else 1
    drawn = canvas(1, columns, figsize=(3.4 * columns, 3.0), dpi=110, layout="constrained")
    if drawn is None:
        return ()
    page, axes = drawn
    bins = np.linspace(0.0, max(1.0, float(max(r.max(), null.max()))), 61)
    axes[0].hist(null, bins, density=True, color="0.75", label=f"no copies ({len(null)})")
    axes[0].hist(r, bins, density=True, histtype="step", color="C0", label=f"generated ({len(r)})")
    axes[0].plot([r.min()], [0], "v", color="C3", clip_on=False, label="nearest to a copy")
    axes[0].set(xlabel="nearest / next distances", ylabel="density")
    axes[0].legend(fontsize=7, frameon=False, loc="upper left")
    if power is not None and power.noise:
        levels = list(power.noise)
        for third, name in enumerate(THIRDS):
            axes[1].plot(levels, [power.noise[n][third].mean() for n in levels], "o-", label=name)
        axes[1].set(xlabel="noise of the copy", ylabel="share found", ylim=(-0.03, 1.03))
        axes[1].legend(fontsize=7, frameon=False, loc="lower left")
    caption = (
        "Left of the grey distribution lie copies. Noise is in units of the distance between "
        "neighbours, sizes are thirds of the training volumes."
    )
    return (Figure("Nearest neighbours", caption, png(page)),)


def flagged_pairs(
    data: Searched,
    evidence: Evidence,
    near: Sequence[Found],
    which: Integers,
    flagged: Integers,
    r: Floats,
) -> tuple[Figure, ...]:
    """The most suspicious generated volumes over their training volumes, mirrored alike."""
    shown = flagged[:_PAIRS]
    size = max(3.4, 1.4 * len(shown)), 3.2
    drawn = canvas(2, len(shown), figsize=size, dpi=110, layout="constrained")
    if drawn is None:
        return ()
    page, axes = drawn
    made = evidence.require_generated()
    for column, i in enumerate(shown):
        generated = made.values[data.generated[i]]
        found = near[int(which[i])]
        volume = data.training_volume[found.index[i, 0]]
        source = mirrored(evidence.training.values[volume], int(found.mirror[i, 0]))
        for line, volume in enumerate((generated, source)):
            axis = axes[line * len(shown) + column]
            axis.imshow(_picture(volume, evidence.modality), cmap="bone", interpolation="nearest")
            axis.set(xticks=[], yticks=[], facecolor="#101418")
        axes[column].set_title(f"r = {r[i]:.2f}", fontsize=8)
    axes[0].set_ylabel("generated", fontsize=8)
    axes[len(shown)].set_ylabel("training", fontsize=8)
    caption = "Generated volumes that look copied, and the training volumes they lie nearest to."
    return (Figure("Pairs that look copied", caption, png(page), patient=True),)


def _picture(volume: Floats, modality: str) -> Floats:
    """[H, W] lit surface of a mask, or the middle slice."""
    if modality == "mask":
        return shaded_surface((volume + 1) / 2)
    middle: Floats = volume[len(volume) // 2]
    return middle
