"""The comparison: its statistics against scipy and scikit-learn, and what each shortcut fails."""

import numpy as np
import pytest

from fastgan.audit.quality.fidelity import LIMITS, Masks, compare, ks_distance
from fastgan.errors import AuditError
from fastgan.measures.shape import soft_ellipsoids

UNIT = (1.0, 1.0, 1.0)


def patients(count: int, seed: int, spread: float = 0.2) -> Masks:
    """Ellipsoids, small ones of class 0 and large ones of class 1."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    volume = np.where(labels == 0, 300.0, 1200.0) * np.exp(0.3 * rng.standard_normal(count))
    aspect = np.exp(spread * rng.standard_normal((count, 3)))
    return Masks(soft_ellipsoids(volume, (20, 20, 20), UNIT, aspect=aspect), labels)


@pytest.mark.parametrize("seed", range(5))
def test_ks_distance_is_scipys(seed):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 31).astype(float), rng.integers(0, 11, 17).astype(float)
    assert ks_distance(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)


def test_ks_distance_counts_undefined_values_as_different():
    assert ks_distance(np.array([np.nan, np.nan, 1.0, 2.0]), np.array([1.0, 2.0])) == 0.5


def test_a_fresh_sample_passes_and_every_shortcut_fails():
    train, holdout = patients(300, 0), patients(200, 1)
    fresh = patients(300, 2)
    copies = Masks(train.values[:200], train.labels[:200])
    balls = patients(300, 3, spread=0.0)
    swapped = Masks(fresh.values, 1 - fresh.labels)
    constant = Masks(np.repeat(fresh.values[:2], 100, axis=0), np.repeat(fresh.labels[:2], 100))
    candidates = {
        "fresh": fresh,
        "copies": copies,
        "balls": balls,
        "swapped": swapped,
        "constant": constant,
    }
    failed = {row.name: row.failed() for row in compare(candidates, holdout, train, UNIT)}
    assert failed["fresh"] == []
    assert failed["copies"] == ["distance ratio"]
    assert {"KS surface", "KS elongation"} <= {*failed["balls"]}
    assert {"AUC gap", "KS volume"} <= {*failed["swapped"]}
    assert {"KS volume", "KS surface", "KS elongation"} <= {*failed["constant"]}


def test_empty_volumes_fail_every_form():
    train, holdout = patients(40, 0), patients(40, 1)
    empty = Masks(np.zeros_like(holdout.values), holdout.labels)
    (row,) = compare({"empty": empty}, holdout, train, UNIT)
    assert {"AUC gap", "KS volume", "KS surface", "KS elongation"} <= {*row.failed()}


def test_a_value_per_class():
    train, holdout = patients(40, 0), patients(40, 1)
    (row,) = compare({"itself": holdout}, holdout, train, UNIT)
    assert {column: len(values) for column, values in row.values.items()} == {
        "AUC gap": 1,
        "KS volume": 2,
        "KS surface": 2,
        "KS elongation": 2,
        "distance ratio": 2,
    }
    assert row.values["distance ratio"] == [1.0, 1.0] and set(row.values) == set(LIMITS)


def test_rejects_one_class():
    masks = patients(20, 0)
    one = Masks(masks.values[::2], masks.labels[::2])
    with pytest.raises(AuditError, match="two classes"):
        compare({"a": masks}, one, masks, UNIT)
    with pytest.raises(AuditError, match="a has no mask of class 1"):
        compare({"a": one}, masks, masks, UNIT)
