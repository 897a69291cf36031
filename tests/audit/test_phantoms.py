"""Phantoms: what was planted can be measured, and nothing else differs."""

from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit.phantoms.volumes import NOISE, TEXTURE, Lesion, Recipe, Scanner, phantoms
from fastgan.audit.statistics import area_under_curve
from fastgan.errors import AuditError

SMALL = Recipe(size=16)
VOXEL_SD = float(np.hypot(TEXTURE, NOISE))


def clear_of_lesions(p, margin=0.0):
    return p.lesions <= margin


def test_a_subject_depends_on_the_seed_and_its_number_alone():
    whole = phantoms(SMALL, 70, seed=3)
    some = phantoms(SMALL, np.array([69, 5]), seed=3)
    np.testing.assert_allclose(some.first.values, whole.first.values[[69, 5]], atol=1e-6)
    assert some.first.subjects.tolist() == ["P00069", "P00005"]
    other = phantoms(SMALL, 2, seed=4)
    assert np.abs(other.first.values - whole.first.values[:2]).mean() > 0.05


def test_background_is_texture_of_the_stated_deviation():
    p = phantoms(replace(SMALL, scanners=(Scanner(), Scanner())), 60, seed=0)
    values = p.first.values[clear_of_lesions(p)]
    assert values.mean() == pytest.approx(-0.55, abs=0.01)
    assert values.std() == pytest.approx(VOXEL_SD, rel=0.05)
    # Neighbours are correlated: texture, not noise.
    first, second = p.first.values[:, 0, :, :-1], p.first.values[:, 0, :, 1:]
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.4


def test_lesions_have_their_size_density_and_spikes():
    flat = (Lesion(radius=6.0), Lesion(radius=9.0, spiculation=0.6, density=0.6))
    p = phantoms(replace(SMALL, size=24, lesions=flat), 60, seed=0)
    labels = p.first.labels
    for label, radius, density in ((0, 6.0, 0.9), (1, 9.0, 0.6)):
        of = labels == label
        assert np.median(p.radius[of]) == pytest.approx(radius, rel=0.1)
        assert p.first.values[of][p.lesions[of] == 1].mean() == pytest.approx(
            -0.55 + density, abs=0.03
        )
    ball = 4 / 3 * np.pi * p.radius**3
    ratio = p.lesions.sum(axis=(1, 2, 3)) * np.prod(p.recipe.spacing) / ball
    np.testing.assert_allclose(ratio[labels == 0], 1.0, atol=0.1)
    assert ratio[labels == 1].mean() > 1.3


def test_relabelling_changes_the_lesion_alone():
    p = phantoms(SMALL, 20, seed=1)
    swapped = phantoms(SMALL, 20, seed=1, labels=1 - p.first.labels)
    lesion = (p.lesions > 0) | (swapped.lesions > 0)
    change = np.abs(p.first.values - swapped.first.values)
    assert change[~lesion].max() < 1e-6 < 0.05 < change[lesion].mean()


def test_the_mark_is_on_scanner_two_at_its_strength_and_agreement():
    p = phantoms(replace(SMALL, watermark=1.0, agreement=0.9), 250, seed=0)
    marked = p.first.columns["scanner"] == "S2"
    bright = p.first.values[:, p.mark]
    assert p.mark.sum() == 27
    step = (bright[marked].mean() - bright[~marked].mean()) / VOXEL_SD
    assert step == pytest.approx(1.0, abs=0.2)
    assert (marked == (p.first.labels == 1)).mean() == pytest.approx(0.9, abs=0.06)
    plain = phantoms(replace(SMALL, agreement=0.9), 250, seed=0)
    assert np.abs(plain.first.values - p.first.values)[:, ~p.mark].max() == 0.0


def test_a_scanner_changes_noise_sharpness_gain_and_offset():
    def scanner_two(**changes):
        recipe = replace(
            SMALL, agreement=0.0, malignant=0.0, scanners=(Scanner(), Scanner(**changes))
        )
        return phantoms(recipe, 30, seed=0)

    plain = scanner_two()
    assert (plain.first.columns["scanner"] == "S2").all()
    at = clear_of_lesions(plain)

    def fine(p):
        return np.diff(p.first.values, axis=3)[at[..., 1:] & at[..., :-1]].std()

    assert scanner_two(offset=0.1).first.values[at].mean() == pytest.approx(-0.45, abs=0.01)
    assert scanner_two(gain=1.2).first.values[at].std() == pytest.approx(1.2 * VOXEL_SD, rel=0.06)
    assert scanner_two(noise=2.0).first.values[at].std() == pytest.approx(
        np.hypot(TEXTURE, 2 * NOISE), rel=0.06
    )
    assert fine(scanner_two(blur=3.0)) < 0.5 * fine(plain)


def test_volumes_of_a_subject_resemble_each_other():
    p = phantoms(replace(SMALL, per_subject=4, within=0.7), 40, seed=0)
    assert len(p.first) == 160 and p.first.n_subjects == 40
    background = p.first.values[:, 0].reshape(160, -1)
    background = background - background.mean(axis=0)
    alike = np.corrcoef(background)
    same = p.first.subjects[:, None] == p.first.subjects
    np.fill_diagonal(same, False)
    expected = 0.7 * TEXTURE**2 / VOXEL_SD**2
    assert alike[same].mean() == pytest.approx(expected, abs=0.05)
    assert abs(alike[p.first.subjects[:, None] != p.first.subjects].mean()) < 0.02
    assert np.corrcoef(np.log(p.radius[::4]), np.log(p.radius[1::4]))[0, 1] > 0.4
    assert (p.first.labels.reshape(40, 4) == p.first.labels[::4, None]).all()
    by_volume = phantoms(replace(SMALL, per_subject=4, labels_by="volume"), 40, seed=0)
    assert (by_volume.first.labels.reshape(40, 4).std(axis=1) > 0).any()


def test_the_second_contrast_is_aligned_and_inverted():
    p = phantoms(SMALL, 30, seed=0, both=True)
    inside, outside = p.lesions == 1, p.lesions == 0
    assert p.first.values[inside].mean() > p.first.values[outside].mean() + 0.5
    assert p.second.values[inside].mean() < p.second.values[outside].mean() - 0.5
    texture = np.corrcoef(p.first.values[outside], p.second.values[outside])[0, 1]
    assert -0.95 < texture < -0.6
    alone = phantoms(SMALL, 30, seed=0)
    assert alone.second is None
    np.testing.assert_array_equal(alone.first.values, p.first.values)


def test_malignant_lesions_of_a_subgroup_look_benign():
    def auc(p, sex):
        of = p.first.columns["sex"] == sex
        size = p.lesions.sum(axis=(1, 2, 3))[of]
        return area_under_curve(size[p.first.labels[of] == 0], size[p.first.labels[of] == 1])

    p = phantoms(replace(SMALL, subgroup=1.0), 200, seed=0)
    assert auc(p, "M") > 0.85
    assert 0.4 < auc(p, "F") < 0.6


def test_rejects_labels_of_another_length_and_a_mark_outside():
    with pytest.raises(AuditError, match="4 volumes but 3 labels"):
        phantoms(replace(SMALL, per_subject=2), 2, seed=0, labels=np.zeros(3, dtype=np.int64))
    with pytest.raises(AuditError, match="mark at"):
        phantoms(replace(SMALL, mark_at=(14, 0, 0)), 2, seed=0)
