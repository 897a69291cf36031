"""These are the pictures of the judgement of membership."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.audit.judgement import Figure
from fastgan.audit.membership.contest import midranks
from fastgan.audit.membership.exposure import Exposure
from fastgan.pictures.canvas import canvas, png

__all__ = ["curves_and_scores"]


def curves_and_scores(found: Exposure, title: str) -> tuple[Figure, ...]:
    """ROC curves with logarithmic axes, and where the strongest attack puts either side."""
    drawn = canvas(1, 2, figsize=(6.8, 3.0), dpi=110, layout="constrained")
    if drawn is None:
        return ()
    page, axes = drawn
    members, others = int(found.member.sum()), int((~found.member).sum())
    least = 0.5 / max(members, others)
    for name, scores, area in zip(found.attacks, found.scores, found.areas, strict=True):
        false, true = _curve(scores, found.member)
        axes[0].step(
            np.maximum(false, least),
            np.maximum(true, least),
            where="post",
            label=f"{name}, AUC {area:.2f}",
        )
    axes[0].plot([least, 1], [least, 1], ":", color="0.6", label="chance")
    axes[0].set(
        xscale="log",
        yscale="log",
        xlim=(least, 1),
        ylim=(least, 1),
        xlabel=f"share of {others} held-out patients named",
        ylabel=f"share of {members} members named",
    )
    axes[0].legend(fontsize=6, frameon=False, loc="upper left")
    places = midranks(found.scores[found.strongest]) / len(found.member)
    bins = np.linspace(0, 1, 21)
    axes[1].hist(
        places[~found.member], bins, density=True, color="0.75", label=f"held out ({others})"
    )
    axes[1].hist(
        places[found.member],
        bins,
        density=True,
        histtype="step",
        color="C3",
        label=f"trained on ({members})",
    )
    axes[1].set(xlabel=f"place by {found.attacks[found.strongest]}", ylabel="density")
    axes[1].legend(fontsize=7, frameon=False)
    caption = (
        "Left: above the dotted line members are named more often than others; what counts is the "
        "far left, few false alarms. Right: places of patients by the strongest attack, 1 the most "
        "suspicious; two flat histograms tell nothing."
    )
    return (Figure(title, caption, png(page)),)


def _curve(scores: Floats, member: Bools) -> tuple[Floats, Floats]:
    """False and true positive rates, equal scores at once."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    true = np.cumsum(member[order])[last] / member.sum()
    false = np.cumsum(~member[order])[last] / (~member).sum()
    return np.append(0.0, false), np.append(0.0, true)
