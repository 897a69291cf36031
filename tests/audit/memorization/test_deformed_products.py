"""The products that serve all mirror images at once are those of the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastgan.audit.likeness.deformed_search import DeformedSearch
from fastgan.audit.likeness.local_contrast import ContrastSpace, local_contrast, pooled
from fastgan.audit.likeness.moves import MIRRORS


def _cosines(
    space: ContrastSpace, queries: torch.Tensor, targets: torch.Tensor, inside: torch.Tensor
) -> np.ndarray:
    """[16, N, M] of both signs and all mirror images of the queries, where inside is 1."""

    def unit(rows: torch.Tensor) -> torch.Tensor:
        placed = space.shrunk((rows.flatten(1) - space.mean) / space.spread * inside.flatten())
        return placed / placed.norm(dim=1, keepdim=True)

    images = [
        sign * queries.flip([a + 1 for a in range(3) if mirror[a]])
        for sign in (1.0, -1.0)
        for mirror in MIRRORS
    ]
    return np.stack([(unit(image) @ unit(targets).T).numpy() for image in images])


@pytest.mark.parametrize("shape", [(12, 12, 12), (9, 12, 7), (16, 6, 11)])
def test_nearest_of_all_mirror_images_signs_and_halves(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    targets = rng.normal(size=(40, *shape)).astype(np.float32)
    queries = rng.normal(size=(6, *shape)).astype(np.float32)
    queries[0] = 0.3 * queries[0] - targets[7, ::-1, :, ::-1]
    middle = shape[1] - shape[1] // 2
    queries[1][:, :middle] = targets[11, :, ::-1][:, :middle]
    space = ContrastSpace.fit(local_contrast(targets))
    found = DeformedSearch(targets, np.arange(40), space).search(queries, k=3)

    rows, known = (pooled(local_contrast(x)).view(-1, *space.shape) for x in (queries, targets))
    whole = _cosines(space, rows, known, torch.ones(space.shape))
    halves = []
    for axis, n in enumerate(space.shape):
        low = (torch.arange(n) < n / 2).view([-1 if i == axis else 1 for i in range(3)])
        halves += [part.expand(space.shape).float() for part in (low, ~low)]
    half = np.concatenate([_cosines(space, rows, known, inside) for inside in halves])
    for name, cosines in {"still": whole, "half": half}.items():
        best = cosines.max(axis=0)
        order = np.argsort(-best, axis=1)[:, :3]
        one = getattr(found, name)
        assert np.array_equal(one.index, order), name
        wanted = np.sqrt(2 - 2 * np.take_along_axis(best, order, 1))
        np.testing.assert_allclose(one.distance, wanted, atol=2e-4, err_msg=name)
        mirror = cosines.argmax(axis=0) % len(MIRRORS)
        assert np.array_equal(one.mirror, np.take_along_axis(mirror, order, 1)), name
    assert found.still.index[0, 0] == 7 and MIRRORS[found.still.mirror[0, 0]] == (1, 0, 1)
    assert found.half.index[1, 0] == 11
