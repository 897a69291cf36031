"""Copies of another brightness, half copies and volumes listed twice, on random fields."""

import numpy as np
import pytest
import torch

from bench.studies.truth.volumes import fields
from bench.studies.truth.worlds import Setting, World
from fastgan.audit.evidence import Options
from fastgan.audit.likeness import deformed_search
from fastgan.audit.likeness.deformed_search import DeformedSearch
from fastgan.audit.likeness.local_contrast import ContrastSpace, local_contrast, pooled
from fastgan.audit.likeness.moves import MIRRORS
from fastgan.audit.likeness.searches import Near
from fastgan.audit.likeness.twins import Twins
from fastgan.audit.memorization.planted_copies import DEFORMED, SAME_POSE, changed
from fastgan.audit.memorization.search import searched
from fastgan.audit.statistics.roc import auc
from fastgan.errors import AuditError


@pytest.fixture(scope="module")
def volumes() -> np.ndarray:
    drawn = fields(80, 12, 2.0, np.random.default_rng(0))
    return np.clip(0.3 * drawn, -1, 1).astype(np.float32)


def search_of(values: np.ndarray) -> DeformedSearch:
    return DeformedSearch(values, np.arange(len(values)), ContrastSpace.fit(local_contrast(values)))


def test_a_space_is_its_own_mirror_image() -> None:
    """Of axes of even and odd length, and of 1."""
    for shape in ((4, 6, 5), (5, 3, 1)):
        maps = torch.from_numpy(np.random.default_rng(1).standard_normal((40, *shape))).float()
        maps[:, 1] += 2 * maps[:, 0]
        space = ContrastSpace.fit(maps)
        across = space.directions @ space.directions.T
        torch.testing.assert_close(across, torch.eye(len(across)), atol=1e-5, rtol=0)
        for mirror in MIRRORS:
            flipped = maps.flip([axis + 1 for axis in range(3) if mirror[axis]])
            back = space.place(pooled(flipped)).view(-1, *space.shape)
            back = back.flip([axis + 1 for axis in range(3) if mirror[axis]]).flatten(1)
            torch.testing.assert_close(back, space.place(pooled(maps)), atol=1e-4, rtol=1e-4)


def test_cosines_are_those_of_the_placed_vectors(volumes):
    search = search_of(volumes[:40])
    found = search.unturned(volumes[40:44], 5)
    space, maps = search.space, local_contrast(volumes[40:44])
    target = space.place(pooled(local_contrast(volumes[:40])))
    target = target / target.norm(dim=1, keepdim=True)
    best = torch.full((4, 40), -2.0)
    for mirror in MIRRORS:
        flipped = maps.flip([axis + 1 for axis in range(3) if mirror[axis]])
        for signed in (flipped, -flipped):
            vector = space.place(pooled(signed))
            vector = vector / vector.norm(dim=1, keepdim=True)
            best = torch.maximum(best, vector @ target.T)
    wanted = np.sqrt(2 - 2 * np.sort(best.numpy(), axis=1)[:, ::-1][:, :5])
    np.testing.assert_allclose(found.distance, wanted, atol=1e-3)
    np.testing.assert_array_equal(found.index[:, 0], best.argmax(dim=1))


def test_contrast_knows_no_gain_and_changes_its_sign(volumes):
    plain = local_contrast(volumes[:3])
    assert torch.allclose(local_contrast(0.5 * volumes[:3] - 0.2), plain, atol=1e-4)
    assert torch.allclose(local_contrast(-volumes[:3]), -plain, atol=1e-4)


@pytest.mark.parametrize("kind", [*SAME_POSE, *DEFORMED])
def test_changed_copies_are_nearest_to_their_source(volumes, kind):
    source, others = volumes[:8], volumes[60:68]
    copies = changed(kind, source, others, np.random.default_rng(1))
    assert copies.shape == source.shape and not np.array_equal(copies, source)
    found = search_of(volumes[:60]).search(copies)
    near = {"half of the volume": found.half}.get(
        kind, found.posed if kind in DEFORMED else found.still
    )
    assert (near.index[:, 0] == np.arange(8)).mean() >= 7 / 8
    assert (np.diff(near.distance, axis=1) >= 0).all()


def test_a_search_leaves_out_its_own_subject(volumes):
    groups = np.repeat(np.arange(20), 4)
    search = DeformedSearch(volumes, groups, ContrastSpace.fit(local_contrast(volumes)))
    found = search.search(volumes[:8], groups=groups[:8])
    for near in (found.still, found.half, found.posed):
        assert (groups[near.index] != groups[:8, None]).all()
    with pytest.raises(AuditError, match="77 neighbours of other subjects needed, 76"):
        search.search(volumes[:2], 77, groups[:2])


def test_twins_are_found_and_the_held_out_one_is_left_out(volumes):
    rng = np.random.default_rng(2)
    again = volumes[:4] + 0.02 * rng.standard_normal(volumes[:4].shape)
    values = np.concatenate([volumes, again.astype(np.float32)])
    subjects = np.array([f"p{i}" for i in range(84)])
    twins = Twins.among(values, subjects)
    assert np.flatnonzero(twins.found).tolist() == [0, 1, 2, 3, 80, 81, 82, 83]
    assert twins.partner[80:].tolist() == [0, 1, 2, 3]
    held = np.arange(84) < 2  # the first two are held out, their twins trained on
    assert np.flatnonzero(twins.second(held)).tolist() == [0, 1, 82, 83]
    assert not Twins.among(volumes, subjects[:80]).found.any()
    with pytest.raises(AuditError, match="needs 40 volumes"):
        Twins.among(volumes[:20], subjects[:20])


def test_fresh_volumes_are_no_more_isolated_than_the_null(monkeypatch) -> None:
    """Nobody is looked up in a space that knows them: it would set the null apart from others."""
    monkeypatch.setattr(deformed_search, "POSES", deformed_search.POSES[:1])
    fresh, null = [], []
    for seed in range(4):
        data = searched(World(Setting(patients=150), seed).evidence(), Options())
        fresh.append([*data.of_generated.isolations(), *data.of_generated.isolations_deformed()])
        null.append([*data.null(Near.isolations), *data.null(Near.isolations_deformed)])
    for ours, chance in zip(np.concatenate(fresh, 1), np.concatenate(null, 1), strict=True):
        scores = np.concatenate([ours, chance])
        assert 0.46 < auc(scores, np.arange(len(scores)) < len(ours)) < 0.53
