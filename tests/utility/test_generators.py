"""A GAN of a fold trains on its fold alone, and what it draws fits the patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastgan.data.ledger import refuse_trained
from fastgan.errors import AuditError, CorruptFile, NumericsError
from fastgan.train import RunFolder
from fastgan.utility.cohort import open_cohort
from fastgan.utility.generators import Generated, checked, generated_by_gan, kept
from fastgan.utility.settings import load
from tests.utility.studies import archive, written


def test_a_generator_is_refused_whom_it_will_be_tested_on(tmp_path: Path) -> None:
    settings = load(written(tmp_path, archive(tmp_path / "a.npz")))
    cohort, _ = open_cohort(settings)
    at = np.arange(len(cohort) - 6)
    tested = frozenset(cohort.subjects[at[-2:]].tolist())
    with pytest.raises(AuditError, match=r"2 patients who are tested .* first 'p0\d\d'"):
        generated_by_gan(settings, cohort, at, tested, tmp_path, 0)
    assert not list(tmp_path.glob("*generator*"))


def test_what_a_fold_generates(tmp_path: Path) -> None:
    settings = load(written(tmp_path, archive(tmp_path / "a.npz"), synthetic=2.0))
    cohort, _ = open_cohort(settings)
    unseen = frozenset(f"p{i:03d}" for i in range(24, 36))
    at = np.flatnonzero(~np.isin(cohort.subjects, sorted(unseen)))
    made = generated_by_gan(settings, cohort, at, unseen, tmp_path / "g", 3)
    assert made.values.shape == (2 * len(at), 1, 8, 8, 8)
    assert made.positive.sum() == len(at)
    assert np.abs(made.values).max() <= 1.0
    run = RunFolder(next((tmp_path / "g").glob("*-generator-seed3")))
    refuse_trained(run.data(), sorted(unseen), "tested")
    with pytest.raises(AuditError, match="1 of 1 tested subjects are among"):
        refuse_trained(run.data(), [str(cohort.subjects[0])], "tested")
    # Its run is finished, so the second time it is only drawn from, to the same volumes.
    again = generated_by_gan(settings, cohort, at, unseen, tmp_path / "g", 3)
    np.testing.assert_array_equal(made.values, again.values)


def test_volumes_on_the_disk_are_those_that_were_drawn(tmp_path: Path) -> None:
    cohort, _ = open_cohort(load(written(tmp_path, archive(tmp_path / "a.npz"))))
    rng = np.random.default_rng(0)
    drawn = Generated(
        rng.uniform(-1, 1, (4, 1, 8, 8, 8)).astype(np.float32), np.array([True, False] * 2)
    )
    path = tmp_path / "generated.npz"
    first = kept(path, cohort, lambda: drawn)
    np.testing.assert_allclose(first.values, drawn.values, atol=1 / 32767)
    second = kept(path, cohort, lambda: pytest.fail("made again"))
    np.testing.assert_array_equal(first.values, second.values)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptFile):
        kept(path, cohort, lambda: drawn)


def test_volumes_that_are_not_finite_have_diverged(tmp_path: Path) -> None:
    cohort, _ = open_cohort(load(written(tmp_path, archive(tmp_path / "a.npz"))))
    bad = Generated(np.full((4, 1, 8, 8, 8), np.nan, np.float32), np.array([True, False] * 2))
    with pytest.raises(NumericsError, match="not finite"):
        checked(bad, cohort)


def test_labels_of_drawn_volumes_are_those_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positive class comes first by name here, so its number in the data set is 0."""
    settings = load(written(tmp_path, archive(tmp_path / "a.npz")))
    cohort, _ = open_cohort(settings)
    assert cohort.dataset is not None and cohort.dataset.classes == ("ill", "well")

    class Bright:
        def sample(self, count: int, labels: np.ndarray, rng: object) -> torch.Tensor:
            shade = torch.from_numpy(np.where(labels == 0, 0.75, -0.75)).float()
            return shade[:, None, None, None, None].expand(count, 1, 8, 8, 8)

    monkeypatch.setattr("fastgan.utility.generators.load_generator", lambda *given: Bright())
    unseen = frozenset({"p035"})
    at = np.flatnonzero(cohort.subjects != "p035")
    made = generated_by_gan(settings, cohort, at, unseen, tmp_path / "g", 0)
    shades = made.values.mean((1, 2, 3, 4))
    np.testing.assert_allclose(shades[made.positive], 0.75)
    np.testing.assert_allclose(shades[~made.positive], -0.75)
