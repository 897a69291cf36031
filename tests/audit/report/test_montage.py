"""The montage: who is shown, and in which grey values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.report.montage import SHOWN, _chosen, _picture, montage
from fastgan.audit.report.page import page
from fastgan.audit.report.record import record_of
from fastgan.pictures.slices import read_png


def test_the_montage_shows_patients_by_the_rule(found) -> None:
    shown = montage(found.evidence, found.options)
    assert [(f.title, f.patient) for f in shown] == [("Generated", False), ("Held-out", True)]
    text = page(record_of(found), found.settled, montage=shown)
    assert 'alt="Generated"' in text and 'alt="Held-out"' not in text
    assert "2 pictures of patients are left out" in text
    text = page(record_of(found, patient=True), found.settled, montage=shown, patient=True)
    assert 'alt="Generated"' in text and 'alt="Held-out"' in text
    translated = replace(found.evidence, translate=lambda volumes: volumes)
    assert [f.patient for f in montage(translated, found.options)] == [True, True]


def test_the_montage_draws_subjects_once_and_classes_in_turn() -> None:
    values = np.linspace(-1, 1, 40, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 5, 6))
    names = np.array([f"p{i // 2}" for i in range(40)])
    cohort = Cohort("held-out", values.astype(np.float32), names, np.arange(40) // 30)
    chosen = _chosen(cohort, np.random.default_rng(0))
    assert len(chosen) == SHOWN and len(set(names[chosen])) == SHOWN
    assert np.count_nonzero(cohort.labels[chosen] == 1) == SHOWN // 2
    few = _chosen(cohort.subset(np.arange(3)), np.random.default_rng(0))
    assert len(few) == 2


def test_the_montage_is_drawn_in_grey_values(tmp_path) -> None:
    steps = np.array([-3.0, -1.0, 0.0, 1.0, 3.0], np.float32)
    volume = np.full((5, 5, 5), -1.0, np.float32)
    volume[2] = steps  # the middle slice; one row of it is the five steps
    assert _picture(volume, masks=False)[0].tolist() == [0, 0, 128, 255, 255]
    mask = np.full((5, 5, 5), -1.0, np.float32)
    assert not _picture(mask, masks=True).any()
    mask[2:, 1:4, 1:4] = 1.0
    drawn = _picture(mask, masks=True)
    assert drawn[2, 2] > 100 and drawn[0].max() == 0
    many = np.stack([volume] * 3)
    evidence = Evidence(
        Cohort("training", many, np.array(["a", "b", "c"])),
        Cohort("held-out", many, np.array(["d", "e", "e"])),
        None,
        (1.0,) * 3,
    )
    (row,) = montage(evidence, Options())
    (tmp_path / "row.png").write_bytes(row.png)
    picture, _ = read_png(tmp_path / "row.png")
    # Two subjects, 5 pixels each, 2 between, every pixel 20 wide to be 96 at least.
    assert picture.shape == (100, 20 * 12) and row.title == "Held-out"
    alone = evidence.holdout.subset(np.array([0]))
    (one,) = montage(replace(evidence, holdout=alone), Options())
    (tmp_path / "one.png").write_bytes(one.png)
    assert read_png(tmp_path / "one.png")[0].shape == (100, 100)
    assert picture[0, ::20].tolist() == [0, 0, 128, 255, 255, 0, 0, 0, 0, 128, 255, 255]
