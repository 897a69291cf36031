"""The search for copies against every pose by hand; planted copies; coarse grids."""

import itertools

import numpy as np
import pytest

from fastgan.audit.likeness.copy_search import CopySearch, coarse
from fastgan.audit.likeness.moves import MIRRORS, mirrored, moved
from fastgan.audit.memorization.planted_copies import TRANSFORMS, noisy, transformed
from fastgan.errors import AuditError


def test_search_is_the_best_of_every_pose(bodies):
    targets, queries = bodies(15, 0), bodies(6, 1)
    plain, best = CopySearch(targets, np.arange(15)).search(queries, 4)

    def centres(x):
        weight = np.clip(x + 0.5, 0, 1)  # the body of (x + 1) / 2
        at = np.stack(np.meshgrid(*[np.arange(12) - 5.5] * 3, indexing="ij"))
        return (weight * at).sum((1, 2, 3)) / weight.sum()

    middle = np.stack([moved(t, -np.rint(centres(t)).astype(int)) for t in targets])
    for i, query in enumerate(queries):
        steps = []
        for c in -centres(query):
            both = abs(c - np.floor(c) - 0.5) < 0.15
            steps.append([np.floor(c), np.floor(c) + 1] if both else [np.rint(c)])
        poses = [moved(query, np.array(s).astype(int)) for s in itertools.product(*steps)]
        flat = np.array([[np.linalg.norm(p - t) for t in middle] for p in poses]).min(axis=0)
        np.testing.assert_allclose(plain.distance[i], np.sort(flat)[:4], rtol=1e-3)
        every = [mirrored(p, m) for p in poses for m in range(8)]
        full = np.array([[np.linalg.norm(p - t) for t in middle] for p in every]).min(axis=0)
        np.testing.assert_allclose(best.distance[i], np.sort(full)[:4], rtol=1e-3)
        np.testing.assert_array_equal(best.index[i], np.argsort(full)[:4])


@pytest.mark.parametrize("kind", ["flip", "shift"])
def test_mirrored_and_shifted_copies_are_at_distance_zero(bodies, kind):
    targets = bodies(20, 2, 16)
    targets[:, [0, 1, -2, -1]] = targets[:, :, [0, 1, -2, -1]] = -1  # room to be moved in
    targets[:, :, :, [0, 1, -2, -1]] = -1
    copies = transformed(kind, targets, np.random.default_rng(0), (1.0,) * 3)
    assert not any(np.array_equal(a, b) for a, b in zip(copies, targets, strict=True))
    _, best = CopySearch(targets, np.arange(20)).search(copies, 2)
    np.testing.assert_array_equal(best.index[:, 0], np.arange(20))
    np.testing.assert_allclose(best.distance[:, 0], 0, atol=1e-6)
    assert (best.distance[:, 1] > 0.1).all()


def test_search_says_which_mirror_image_it_was(bodies):
    targets = bodies(10, 3)
    copies = np.stack([mirrored(x, m) for x, m in zip(targets[:8], range(8), strict=True)])
    _, best = CopySearch(targets, np.arange(10)).search(copies, 1)
    assert best.mirror[:, 0].tolist() == list(range(8))
    assert MIRRORS[0] == (False, False, False)


def test_search_leaves_out_a_querys_own_subject(bodies):
    targets, groups = bodies(12, 4), np.repeat(np.arange(4), 3)
    search = CopySearch(targets, groups)
    plain, best = search.search(targets, 9, groups)
    for found in (plain, best):
        assert (groups[found.index] != groups[:, None]).all()
        assert (np.diff(found.distance, axis=1) >= 0).all()
        assert all(len(set(row)) == 9 for row in found.index)
    with pytest.raises(AuditError, match="10 neighbours of other subjects needed, 9 volumes left"):
        search.search(targets, 10, groups)


def test_volumes_without_a_body_stay_where_they_are():
    empty = np.full((3, 8, 8, 8), -1.0, np.float32)
    empty[1, 2, 2, 2] = -0.8  # faint: below what counts as body
    plain, _ = CopySearch(empty, np.arange(3)).search(empty[1:2], 3)
    assert plain.index[0, 0] == 1


def test_coarse_averages_blocks_of_large_grids_only(bodies):
    small = bodies(2, 5)
    assert coarse(small) is small
    large = np.random.default_rng(0).random((1, 65, 48, 3), dtype=np.float32)
    assert coarse(large).shape == large.shape  # 9,360 voxels
    large = np.random.default_rng(0).random((1, 65, 64, 9), dtype=np.float32)
    out = coarse(large)
    assert out.shape == (1, 32, 32, 4)
    np.testing.assert_allclose(out[0, 3, 2, 1], large[0, 6:8, 4:6, 2:4].mean(), rtol=1e-6)


def test_noise_has_the_length_that_was_asked_for(bodies):
    volumes = bodies(5, 6)
    out = noisy(volumes, 3.0, np.random.default_rng(0))
    lengths = np.linalg.norm((out - volumes).reshape(5, -1), axis=1)
    assert lengths == pytest.approx(np.full(5, 3.0), rel=0.1)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_every_transform_changes_volumes_and_repeats_by_its_seed(bodies, kind):
    volumes = bodies(4, 7)
    a, b = (transformed(kind, volumes, np.random.default_rng(3), (1.0,) * 3) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == volumes.shape
    if kind != "flip":
        assert all(not np.array_equal(x, y) for x, y in zip(a, volumes, strict=True))
