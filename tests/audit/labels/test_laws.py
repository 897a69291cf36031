"""What is done to volumes: alterations do what they are called, and laws find faults in them."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit.labels.alterations import AUGMENTATIONS, alter, destroy, interpolated, wobbled
from fastgan.audit.labels.laws import check_laws
from fastgan.audit.phantoms.volumes import phantoms
from fastgan.data.augment import apply
from fastgan.errors import AuditError
from tests.audit.labels.conftest import EASY, UNIT


def test_alterations_do_what_they_are_called():
    rng = np.random.default_rng(0)
    values = np.tanh(rng.standard_normal((4, 12, 12, 12))).astype(np.float32)
    assert np.array_equal(alter("flip", values, rng, UNIT), values[:, ::-1])
    for name in AUGMENTATIONS:
        changed = alter(name, values, np.random.default_rng(1), UNIT)
        assert changed.shape == values.shape and changed.dtype == np.float32
        assert all(not np.array_equal(a, b) for a, b in zip(changed, values, strict=True)), name
    assert np.allclose(
        interpolated(values, np.ones((4, 3)))[:, :-1, :-1, :-1], values[:, 1:, 1:, 1:]
    )
    assert np.abs(wobbled(np.full_like(values, 0.3), rng) - 0.3).max() < 0.06
    assert (destroy("lesion erased", values, "mask") == -1).all()
    with pytest.raises(AuditError, match="'cutout' is not one of"):
        alter("cutout", values, rng, UNIT)


def test_laws_hold_and_planted_faults_break_them():
    values = phantoms(EASY, 6, seed=3).first.values
    thick = (1.0, 1.0, 3.0)

    def faulty(change):
        def do(v, parameters):
            import torch

            volumes = torch.from_numpy(np.ascontiguousarray(v))[:, None]
            spacing = change.get("spacing", thick)
            parameters = {**parameters, **change.get("always", {})}
            return apply(volumes, [parameters] * len(v), spacing)[:, 0].numpy()

        return do

    assert all(law.holds for law in check_laws(values, thick))
    assert all(law.holds for law in check_laws(values[:, 5:11], UNIT))  # thin, and isotropic
    off = faulty({"always": {"scale": 1.1}})
    broken = {law.name for law in check_laws(values, thick, off) if not law.holds}
    assert "turned and turned back is unchanged" in broken

    def one_way(v, parameters):
        """Turns by the size of the angle, whatever its sign."""
        turned = {k: np.abs(a).tolist() if k == "rotate" else a for k, a in parameters.items()}
        return faulty({})(v, turned)

    broken = {law.name for law in check_laws(values, thick, one_way) if not law.holds}
    assert broken == {"turned and turned back is unchanged"}
