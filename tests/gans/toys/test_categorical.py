"""Three categories, a generator with one knob: each loss settles for a t of its own.

Real shares p = (0.6, 0.3, 0.1), generated q(t) = (t, (1-t)/2, (1-t)/2). The optima below are
6e-4 apart at the nearest, so exact expectations tell every loss from every other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.examples.toy_game import plot
from fastgan.examples.toy_game.__main__ import main
from fastgan.examples.toy_game.game import Play, Softmax, play
from fastgan.examples.toy_game.solution import (
    LOSSES,
    REAL,
    best_scores,
    divergence,
    generated,
    optimal_knob,
)
from fastgan.gans import find_objective

OPTIMA = {
    "minimax": 0.61597756,
    "non-saturating": 0.65071443,
    "least-squares": 0.64994965,
    "hinge": 0.6,
    "wasserstein": 0.6,
}
DIRECTION = torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64)


def minimum(f: Callable[[float], float]) -> float:
    """Of a convex function on [0.45, 0.85], by golden section."""
    low, high, ratio = 0.45, 0.85, (math.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if f(a) < f(b) else (a, high)
    return (low + high) / 2


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    m = (p + q) / 2
    return float(((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2)


@pytest.mark.parametrize(("name", "optimum"), OPTIMA.items())
def test_optimum_of_each_loss(name: str, optimum: float) -> None:
    """By the real objective: its slope along the knob vanishes at t*, and nowhere near."""
    objective = find_objective(name)
    assert optimal_knob(objective) == pytest.approx(optimum, abs=1e-6)

    def slope(t: float) -> float:
        scores = best_scores(objective, REAL, generated(t))
        return float((DIRECTION * objective.on_generator(scores)).sum())

    for distance in (1e-6, 1e-3, 0.1):
        assert slope(optimum - distance) < 0 < slope(optimum + distance)


@pytest.mark.parametrize("name", LOSSES)
def test_no_critic_beats_the_best_one(name: str) -> None:
    """The closed form against random changes, under the real loss (and penalty)."""
    objective = find_objective(name)
    q = generated(0.55)
    best = best_scores(objective, REAL, q)

    def loss(s: Tensor) -> float:
        value = (REAL * objective.on_real(s)).sum() + (q * objective.on_fake(s)).sum()
        # A linear critic's slope is |s| everywhere.
        return float(value + (10.0 * (s.norm() - 1.0) ** 2 if name == "wasserstein" else 0.0))

    for seed in range(50):
        change = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert loss(best + 10.0 ** -(seed % 4) * change) > loss(best)


def test_minimax_minimises_jensen_shannon() -> None:
    objective = find_objective("minimax")
    t = minimum(lambda t: jensen_shannon(REAL, generated(t)))
    assert t == pytest.approx(OPTIMA["minimax"], abs=1e-6)
    q = generated(OPTIMA["minimax"])
    assert jensen_shannon(REAL, q) == pytest.approx(0.0133995002, abs=1e-9)
    assert divergence(objective, REAL, q) == pytest.approx(0.0133995002, abs=1e-9)
    verdicts = best_scores(objective, REAL, q).sigmoid()
    assert verdicts.tolist() == pytest.approx([0.4934301567, 0.6097421950, 0.3424525972], abs=1e-7)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("least-squares", lambda p, q: ((p - q) ** 2 / (p + q)).sum() / 2),
        ("hinge", lambda p, q: (p - q).abs().sum() / 2),
        ("wasserstein", lambda p, q: (p - q).norm() * (1 + (p - q).norm() / 20)),
    ],
)
def test_divergence_by_its_formula(name: str, of: Callable[[Tensor, Tensor], Tensor]) -> None:
    for t in (0.5, 0.6, 0.7):
        q = generated(t)
        assert divergence(find_objective(name), REAL, q) == pytest.approx(float(of(REAL, q)))


def test_what_other_divergences_would_pick() -> None:
    """Contrast on paper: neither is what a critic of this project minimises."""
    likelihood = minimum(lambda t: -float((REAL * generated(t).log()).sum()))
    reverse = minimum(lambda t: float((generated(t) * (generated(t) / REAL).log()).sum()))
    assert likelihood == pytest.approx(0.6, abs=1e-6)
    assert reverse == pytest.approx(0.63397460, abs=1e-6)
    smooth = [OPTIMA[name] for name in ("minimax", "non-saturating", "least-squares")]
    apart = np.diff(sorted([*smooth, likelihood, reverse]))
    assert apart.min() > 5e-4


@pytest.fixture(scope="module")
def played() -> dict[str, Play]:
    """The smooth games, by AdversarialGAN and the training loop."""
    names = ("minimax", "non-saturating", "least-squares")
    return {name: play(name, steps=300, critic_steps=2) for name in names}


def test_training_reaches_the_optimum(played: dict[str, Play]) -> None:
    for name, game in played.items():
        objective, t = find_objective(name), OPTIMA[name]
        assert game.shares[0, 0] == pytest.approx(1 / 3, abs=1e-6), name
        assert game.shares[-1, 0] == pytest.approx(t, abs=1e-2), name
        best = best_scores(objective, REAL, generated(t))
        assert game.scores[-1] == pytest.approx(best.numpy(), abs=3e-2), name
        exact = divergence(objective, REAL, generated(t))
        assert game.divergence[-1] == pytest.approx(exact, abs=1e-3), name


TABLE = Path(__file__).resolve().parents[3] / "docs" / "variants" / "index.md"
ROW = r"^\| (\w[^|]*) \| (0\.\d{4}) \| (0\.\d+) \|$"
IN_THE_TABLE = {
    "minimax": "minimax",
    "non-saturating": "non-saturating",
    "least squares": "least-squares",
    "hinge": "hinge",
    "Wasserstein, penalised": "wasserstein",
}


@pytest.mark.slow
def test_the_table_of_the_page() -> None:
    """All five losses, as the command above the table plays them, with their optima on paper."""
    rows = re.findall(ROW, TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [IN_THE_TABLE[name.strip()] for name, _, _ in rows] == list(LOSSES)
    for (_, trained, paper), name in zip(rows, LOSSES, strict=True):
        assert float(paper) == pytest.approx(OPTIMA[name], abs=1e-8), name
        game, objective = play(name), find_objective(name)
        # Sums of float32 are split by the machine; what is printed holds to 2e-4.
        assert game.shares[-1, 0] == pytest.approx(float(trained), abs=2e-4), name
        exact = divergence(objective, REAL, generated(OPTIMA[name]))
        assert game.divergence[-1] == pytest.approx(exact, abs=1e-3), name
        if name == "wasserstein":
            # Half way along its kink at t = 0.6 the critic still tells B from C as on paper.
            best = best_scores(objective, REAL, generated(0.6))
            assert game.scores[-1] == pytest.approx(best.numpy(), abs=1e-2)
        elif name == "hinge":
            # B is scored too low and C too high; A, generated as often as it is real, lies between.
            assert game.scores[-1, 1:] == pytest.approx([1.0, -1.0], abs=1e-2)
            assert -1.0 < game.scores[-1, 0] < 1.0


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_a_generator_that_can_match_does(name: str) -> None:
    game = play(name, Softmax(), steps=200, critic_steps=2)
    assert game.shares[-1] == pytest.approx(REAL.numpy(), abs=1e-2)
    assert game.divergence[-1] == pytest.approx(0.0, abs=1e-3)


def test_the_page_and_the_table(
    played: dict[str, Play], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("fastgan.examples.toy_game.__main__.play", lambda loss, steps: played[loss])
    out = tmp_path / "page.png"
    assert main(["--loss", *played, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for name in played:
        (line,) = re.findall(rf"^{name} +(\S+) +(\S+) +(\S+) +(\S+)", printed, re.MULTILINE)
        trained, paper, estimate, exact = map(float, line)
        assert paper == pytest.approx(OPTIMA[name], abs=1e-8)
        assert trained == pytest.approx(paper, abs=1e-2)
        assert estimate == pytest.approx(exact, abs=1e-3)
    assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 20_000


def test_runs_as_a_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--loss", "hinge", "wasserstein", "--steps", "3", "--no-plot"]) == 0
    assert "total_variation" in capsys.readouterr().out
    assert main(["--loss", "hinge", "--steps", "0"]) == ConfigError.exit_code
    assert "train.steps" in capsys.readouterr().err


def test_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'fastgan\[report\]'"):
        plot.draw([], Path("never.png"))
