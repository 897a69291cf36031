"""How alike pairs of volumes of a class are."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort
from fastgan.audit.quality.context import similarity
from fastgan.audit.quality.context.similarity import ms_ssim, similarity_table
from fastgan.errors import AuditError

RNG = np.random.default_rng


def test_ms_ssim_of_equal_brighter_and_other_volumes():
    a = RNG(0).random((2, 12, 22, 23))
    np.testing.assert_allclose(ms_ssim(a, a, 1.0), 1.0)
    brighter, noisy = ms_ssim(a, a + 0.2, 1.0), ms_ssim(a, RNG(1).random(a.shape), 1.0)
    assert (noisy < brighter).all() and (brighter < 1).all()
    with pytest.raises(AuditError, match="at least 11 voxels"):
        ms_ssim(a[:, :8], a[:, :8], 1.0)


def test_ms_ssim_of_one_scale_is_the_closed_form():
    # Constant volumes: no structure, so the luminance factor alone.
    x, y = np.full((1, 12, 12, 12), 0.3), np.full((1, 12, 12, 12), 0.6)
    expected = (2 * 0.18 + 1e-4) / (0.09 + 0.36 + 1e-4)
    assert ms_ssim(x, y, 1.0)[0] == pytest.approx(expected)


def cohort(name: str, values: np.ndarray, labels: np.ndarray | None) -> Cohort:
    subjects = np.array([f"{name}{i}" for i in range(len(values))])
    return Cohort(name, values.astype(np.float32), subjects, labels)


def textures(count: int, seed: int, alike: float) -> np.ndarray:
    """Volumes that share a texture to some degree."""
    shared = RNG(99).standard_normal((1, 12, 12, 12))
    own = RNG(seed).standard_normal((count, 12, 12, 12))
    return 0.2 * (np.sqrt(alike) * shared + np.sqrt(1 - alike) * own)


def mean_of(cell: str) -> float:
    return float(cell.split()[0])


def test_a_class_of_little_variety_shows_and_the_other_does_not():
    labels = np.repeat([0, 1], 20)
    patients = cohort("patients", textures(40, 0, 0.1), labels)
    made = cohort("generated", np.concatenate([textures(20, 1, 0.1), textures(20, 2, 0.9)]), labels)
    table = similarity_table(made, patients, ("benign", "malignant"), RNG(0))
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == ["all", "benign", "malignant"]
    assert [rows["all"][i] for i in (1, 3)] == [20, 20] and rows["malignant"][1] == 10
    assert abs(mean_of(rows["benign"][0]) - mean_of(rows["benign"][2])) < 0.1
    assert mean_of(rows["malignant"][0]) > mean_of(rows["malignant"][2]) + 0.4
    low, high = (float(n) for n in rows["malignant"][0].split("[")[1].rstrip("]").split(","))
    assert low <= mean_of(rows["malignant"][0]) <= high <= 1


def test_pairs_are_disjoint(monkeypatch):
    seen = []

    def paired(a, b):
        seen.extend([*a[:, 0, 0, 0], *b[:, 0, 0, 0]])
        return np.zeros(len(a))

    monkeypatch.setattr(similarity, "ms_ssim", paired)
    values = np.arange(301.0)[:, None, None, None] * np.ones((1, 11, 11, 11)) / 301
    (row,) = similarity_table(cohort("a", values, None), cohort("b", values, None), (), RNG(0)).rows
    assert row[2] == row[4] == 100 and len(seen) == 400
    assert len(set(seen[:200])) == 200 and len(set(seen[200:])) == 200


def test_one_volume_of_a_class_and_small_volumes_are_told():
    labels = np.array([0] * 12 + [1])
    few = cohort("generated", textures(13, 0, 0.5), labels)
    table = similarity_table(few, few, ("benign", "malignant"), RNG(0))
    assert table.rows[2][1] == "not available: needs 10 volumes, got 1"
    assert "not available" not in str(table.rows[:2])
    small = cohort("generated", textures(12, 0, 0.5)[:, :8], None)
    (row,) = similarity_table(small, small, (), RNG(0)).rows
    assert str(row[1]).startswith("not available: ms_ssim: needs pairs")


def test_equal_volumes_are_wholly_alike():
    same = cohort("generated", np.zeros((20, 12, 12, 12)), None)
    (row,) = similarity_table(same, same, (), RNG(0)).rows
    assert row[1] == "1.000 [1.000, 1.000]"
