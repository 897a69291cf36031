"""The categorical game as one page: a column per loss, a row per question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.errors import ConfigError
from fastgan.examples.toy_game.game import Play
from fastgan.examples.toy_game.solution import (
    CATEGORIES,
    LOSSES,
    REAL,
    best_scores,
    divergence,
    generated,
    optimal_knob,
)
from fastgan.gans import find_objective

__all__ = ["draw"]

INK, FAINT, ACCENT = "#22272e", "#8a929c", "#0b6e99"
COLOURS = dict(zip(CATEGORIES, ("#0b6e99", "#c2571a", "#5b8c2a"), strict=True))
LOGITS = ("minimax", "non-saturating")
NAMES = {
    "jensen_shannon": "Jensen-Shannon (nats)",
    "le_cam": "Le Cam",
    "total_variation": "total variation",
    "wasserstein": "Wasserstein (voxel units)",
}


def draw(plays: Sequence[Play], path: Path) -> None:
    """Write a PNG of any number of games side by side.

    Rows: the knob t, the critic's verdict on each category, and the critic's estimate of the
    divergence. Dashed: the analytic answers of `solution`.

    Raises:
        ConfigError: matplotlib (the `report` extra) is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "toy_game: the plot needs matplotlib; install it with pip install 'fastgan[report]'"
        ) from error
    # No narrower than its title.
    width = max(7.0, 3.05 * len(plays) + 0.6)
    figure = Figure(figsize=(width, 8.2), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(plays), squeeze=False, sharex=True)
    for column, game in enumerate(plays):
        knob, verdict, distance = axes[:, column]
        _knob(knob, game)
        _verdicts(verdict, game)
        _divergence(distance, game)
        knob.set_title(game.objective, fontsize=12, color=INK, weight="bold", loc="left", pad=8)
        distance.set_xlabel("generator steps", fontsize=9, color=INK)
        for axis in (knob, verdict, distance):
            _style(axis, len(game.divergence))
    axes[0, 0].set_ylabel("generator's knob t\n(share of A it draws)", fontsize=9, color=INK)
    axes[1, 0].set_ylabel("critic on A, B, C", fontsize=9, color=INK)
    axes[2, 0].set_ylabel("critic's estimate\nof the divergence", fontsize=9, color=INK)
    shares = ", ".join(f"{s:g} {n}" for s, n in zip(REAL.tolist(), CATEGORIES, strict=True))
    figure.suptitle(
        f"Where the loss leads: real data hold {shares}",
        x=0.01, y=0.985, ha="left", fontsize=14, color=INK, weight="bold",
    )  # fmt: skip
    figure.text(
        0.01, 0.928,
        "The generator can draw t A and (1-t)/2 of B and C each, nothing else.\n"
        "Solid: training. Dashed: the answer on paper.",
        fontsize=10, color=FAINT, linespacing=1.4, va="center",
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 0.91), w_pad=1.6, h_pad=1.2)
    figure.savefig(path)


def _style(axis: Any, steps: int) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(FAINT)
    axis.tick_params(colors=FAINT, labelsize=8, length=3)
    axis.set_xlim(0, steps * 1.22)
    axis.set_xticks([0, steps // 2, steps])
    axis.spines["bottom"].set_bounds(0, steps)


def _line(axis: Any, values: np.ndarray, colour: str, width: float = 1.6) -> None:
    axis.plot(np.arange(1, len(values) + 1), values, color=colour, lw=width, solid_capstyle="round")


def _answer(axis: Any, value: float, steps: int, colour: str) -> None:
    axis.plot([0, steps], [value, value], color=colour, lw=1.0, ls=(0, (4, 3)), zorder=0)


def _figures(axis: Any, height: float, trained: str, paper: str) -> None:
    """Two lines in a corner that no curve reaches."""
    place = {"transform": axis.transAxes, "ha": "right", "fontsize": 9}
    axis.text(0.82, height, trained, color=ACCENT, va="bottom", **place)
    axis.text(0.82, height - 0.015, paper, color=INK, va="top", **place)


def _knob(axis: Any, game: Play) -> None:
    optimum, steps = optimal_knob(find_objective(game.objective)), len(game.divergence)
    _answer(axis, optimum, steps, INK)
    _line(axis, game.shares[:, 0], ACCENT)
    axis.set_ylim(0.3, 0.75)
    _figures(axis, 0.22, f"{game.shares[-1, 0]:.4f} trained", f"{optimum:.4f} = t*, on paper")


def _verdicts(axis: Any, game: Play) -> None:
    objective, steps = find_objective(game.objective), len(game.divergence)
    best = best_scores(objective, REAL, generated(optimal_knob(objective))).numpy()
    scores = game.scores
    what = "score"
    if game.objective in LOGITS:
        best, scores = _sigmoid(best), _sigmoid(scores)
    if game.objective in (*LOGITS, "least-squares"):
        what = "D(x); 1/2: cannot tell"
        axis.axhline(0.5, color="#e3e6ea", lw=1, zorder=0)
        axis.set_ylim(0.2, 0.7)
    else:
        axis.axhline(0.0, color="#e3e6ea", lw=1, zorder=0)
        axis.set_ylim(-1.35, 1.35)
    # At the kink t* = 0.6 of the total variation, any score of A in [-1, 1] is a best one.
    known = [i for i in range(3) if not (game.objective == "hinge" and i == 0)]
    for i, name in enumerate(CATEGORIES):
        if i in known:
            _answer(axis, float(best[i]), steps, COLOURS[name])
        _line(axis, scores[:, i], COLOURS[name])
        axis.annotate(
            f"{name} {scores[-1, i]:.2f}", (steps, scores[-1, i]), (4, 0),
            textcoords="offset points", va="center", fontsize=9, color=COLOURS[name],
        )  # fmt: skip
    axis.text(0.0, 1.02, what, transform=axis.transAxes, fontsize=8, color=FAINT, va="bottom")


def _divergence(axis: Any, game: Play) -> None:
    objective, steps = find_objective(game.objective), len(game.divergence)
    optimum = divergence(objective, REAL, generated(optimal_knob(objective)))
    _answer(axis, optimum, steps, INK)
    _line(axis, game.divergence, ACCENT)
    top = max(2.2 * optimum, 1.05 * float(game.divergence.max()))
    final = float(game.divergence[-1])
    axis.set_ylim(-0.04 * top, top)
    _figures(axis, 0.78, f"{final:.4f} trained", f"{optimum:.4f} at t*, on paper")
    axis.text(
        0.0, 1.02, NAMES[LOSSES[game.objective]], transform=axis.transAxes, fontsize=8,
        color=FAINT, va="bottom",
    )  # fmt: skip


def _sigmoid(values: np.ndarray) -> np.ndarray:
    sigmoid: np.ndarray = 1.0 / (1.0 + np.exp(-values))
    return sigmoid
