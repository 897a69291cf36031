"""How likely unseen patients are, against closed forms and the definition, loop by loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fastgan.audit.quality.context import likelihood
from fastgan.audit.quality.context.likelihood import surprise
from fastgan.errors import AuditError

RNG = np.random.default_rng


def test_one_centre_is_the_closed_form():
    # Two equal centres are one: p = N(x; c, v I), whose likelihood of the known is largest at
    # v = mean |known - c|^2 / F, since d/dv [-F/2 log v - s / 2v] = 0 at v = s / F. So
    # -log p(x) / F = 1/2 log(2 pi v) + |x - c|^2 / (2 v F).
    known, unseen = RNG(0).standard_normal((40, 3)), RNG(1).standard_normal((7, 3))
    centre = np.array([0.3, -0.2, 0.1])
    v = ((known - centre) ** 2).sum(1).mean() / 3
    expected = 0.5 * math.log(2 * math.pi * v) + ((unseen - centre) ** 2).sum(1) / (2 * v * 3)
    found = surprise(np.stack([centre, centre]), known, unseen)
    assert found == pytest.approx(100 * expected, rel=1e-9)


def test_far_centres_are_closed_forms_of_their_own():
    # A thousand deviations apart, each centre has its own patients: log p = log 1/2 + log N.
    near, far = RNG(0).standard_normal((30, 2)), RNG(1).standard_normal((50, 2)) * 2 + 1000
    unseen = np.array([[0.5, 0.0], [1001.0, 999.0]])
    found = surprise(np.array([[0.0, 0.0], [1000.0, 1000.0]]), np.concatenate([near, far]), unseen)
    for i, (rows, centre) in enumerate(((near, 0.0), (far, 1000.0))):
        v = ((rows - centre) ** 2).sum(1).mean() / 2
        log = -math.log(2) - math.log(2 * math.pi * v) - ((unseen[i] - centre) ** 2).sum() / (2 * v)
        assert found[i] == pytest.approx(-100 / 2 * log, rel=1e-6)


def plainly(made, known, unseen, rounds):
    """The definition, number by number."""
    m, f = made.shape

    def normal(x, j, v):
        return (2 * math.pi * v) ** (-f / 2) * math.exp(-((x - made[j]) ** 2).sum() / (2 * v))

    v = [min(((x - c) ** 2).sum() for x in known) / f for c in made]
    for _ in range(rounds):
        share = [[normal(x, j, v[j]) for j in range(m)] for x in known]
        share = [[s / sum(row) for s in row] for row in share]
        v = [
            sum(row[j] * ((x - made[j]) ** 2).sum() for row, x in zip(share, known, strict=True))
            / (f * sum(row[j] for row in share))
            for j in range(m)
        ]
    return [-100 / f * math.log(sum(normal(x, j, v[j]) for j in range(m)) / m) for x in unseen]


def test_is_its_definition(monkeypatch):
    made, known, unseen = (RNG(i).standard_normal((n, 2)) for i, n in enumerate((6, 30, 8)))
    monkeypatch.setattr(likelihood, "ROUNDS", 7)
    monkeypatch.setattr(likelihood, "SETTLED", -math.inf)
    assert surprise(made, known, unseen) == pytest.approx(plainly(made, known, unseen, 7), rel=1e-9)


def test_the_widths_are_a_maximum(monkeypatch):
    made, known = RNG(0).standard_normal((10, 3)), RNG(1).standard_normal((60, 3))
    seen = []
    for rounds in range(1, 40):
        monkeypatch.setattr(likelihood, "ROUNDS", rounds)
        seen.append(surprise(made, known, known).mean())
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(seen))
    assert seen[0] - seen[-1] > 1 and seen[-2] - seen[-1] < 0.05


def test_copies_of_training_patients_are_worse_than_new_patients():
    known, fresh, unseen = RNG(0).standard_normal((3, 80, 6))
    fair = surprise(fresh, known, unseen).mean()
    copied = surprise(known + 1e-9, known, unseen).mean()
    poor = surprise(fresh + 1.0, known, unseen).mean()
    assert copied > fair + 100 and poor > fair + 10
    half = surprise(np.concatenate([known[:40], fresh[:40]]), known, unseen).mean()
    assert fair < half < copied


def test_too_little_variety_is_no_fault_to_it():
    """As the module says: for normal patients one wide distribution in the middle is the truth."""
    known, fresh, unseen = RNG(0).standard_normal((3, 80, 6))
    assert surprise(0.1 * fresh, known, unseen).mean() < surprise(fresh, known, unseen).mean()


def test_further_patients_are_as_likely_as_patients():
    gaps = []
    for seed in range(60):
        made, other, known, unseen = RNG(seed).standard_normal((4, 40, 4))
        gaps.append(surprise(made, known, unseen).mean() - surprise(other, known, unseen).mean())
    assert abs(np.mean(gaps)) < 3 * np.std(gaps, ddof=1) / math.sqrt(60)


@pytest.mark.parametrize("made", ["equal", "copies", "far"])
def test_odd_sets_give_finite_numbers(made):
    known, unseen = RNG(0).standard_normal((2, 30, 5))
    sets = {"equal": np.zeros((20, 5)), "copies": known, "far": np.full((20, 5), 1e4)}
    assert np.isfinite(surprise(sets[made], known, unseen)).all()


def test_refuses_what_has_no_likelihood():
    good = RNG(0).standard_normal((8, 3))
    bad = good.copy()
    bad[0, 0] = np.nan
    for made, known, message in (
        (good, good[:, :2], "features must be"),
        (good[:1], good, "needs 2 vectors"),
        (bad, good, "NaN"),
        (good, np.zeros((8, 3)), "every known patient has an equal"),
    ):
        with pytest.raises(AuditError, match=message):
            surprise(made, known, good)
