"""Alarms on planted cases: what a translation may do to contrast, and what it may not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.measures.structure import body_mask, structure, structure_metrics

SIZE = 40


def texture(seed: int = 0) -> Tensor:
    """[1, 1, D, H, W] smooth noise in [0, 1]."""
    coarse = torch.rand(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(SIZE,) * 3, mode="trilinear", align_corners=True)


def distance() -> Tensor:
    """[1, 1, D, H, W]: 1 at the surface of an ellipsoid that fills a third of the volume."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 3, indexing="ij")
    squares = [(x / half).square() for x, half in zip(axes, (0.85, 0.7, 0.8), strict=True)]
    return sum(squares).sqrt()[None, None]


BODY = distance() < 1.0
T1 = torch.where(BODY, -0.7 + 1.6 * texture(), -1.0)
# As fluid and fat swap places from T1 to T2: any decreasing map within the body.
T2 = torch.where(BODY, -0.75 + 1.6 * (1.0 - texture()) ** 2, -1.0)


def with_noise(volume: Tensor, size: float = 0.04) -> Tensor:
    noise = torch.randn(volume.shape, generator=torch.Generator().manual_seed(1))
    return (volume + size * noise).clamp(-1.0, 1.0)


def dice(a: Tensor, b: Tensor) -> float:
    return (2.0 * (a & b).sum() / (a.sum() + b.sum())).item()


@pytest.mark.parametrize("noise", [0.0, 0.04])
@pytest.mark.parametrize("volume", [T1, T2, -T1, 0.3 * T1 - 0.6], ids=["T1", "T2", "-T1", "dim"])
def test_body_mask_finds_the_body(volume: Tensor, noise: float) -> None:
    mask, level = body_mask(with_noise(volume, noise)[0, 0])
    assert dice(mask, BODY[0, 0]) > 0.97
    assert level.item() == pytest.approx(volume[0, 0, 0, 0, 0].item(), abs=0.05)


def test_body_mask_closes_cavities() -> None:
    shell = torch.where((distance() < 1.0) & (distance() > 0.8), 0.5, -1.0)
    assert dice(body_mask(shell[0, 0])[0], BODY[0, 0]) > 0.99


def test_threshold_separates_dark_and_bright_tissue_from_air() -> None:
    # Otsu's threshold would lie between the two tissues.
    volume = torch.full((20, 20, 20), -1.0)
    volume[5:15, 5:15, 5:10] = -0.6
    volume[5:15, 5:15, 10:15] = 0.9
    assert torch.equal(body_mask(volume)[0], volume > -0.9)


def test_a_faithful_translation_is_quiet() -> None:
    found = structure(T1, with_noise(T1 * 0.8 - 0.2))
    assert found.order.item() > 0.98 and found.correlation.item() > 0.95
    assert found.dice.item() > 0.97 and found.lost.item() < 0.05 and found.gained.item() < 0.05
    assert not found.inverted and not found.drifted


@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_t1_to_t2_is_no_inversion(noise: float) -> None:
    found = structure(with_noise(T1, noise), with_noise(T2, noise))
    assert found.correlation.item() < -0.8
    assert found.order.item() > 0.98 and found.dice.item() > 0.95
    assert not found.inverted and not found.drifted
    clean = structure(T1, T2)
    assert clean.mutual_information.item() > 0.7 and clean.edges.item() > 0.5
    # The same map between domains that show tissue alike is one.
    assert structure(T1, T2, same_contrast=True).inverted


@pytest.mark.parametrize("negative", [-T1, -T2, 0.5 - 0.4 * T1], ids=["-T1", "-T2", "weak"])
def test_a_negative_alarms(negative: Tensor) -> None:
    found = structure(T1, with_noise(negative.clamp(-1.0, 1.0)))
    assert found.order.item() < 0.02
    assert found.inverted and not found.drifted


def test_edges_and_information_do_not_see_the_sign() -> None:
    found = structure(T1, -T1)
    assert found.edges.item() == pytest.approx(1.0, abs=1e-4)
    assert found.mutual_information.item() == pytest.approx(1.0, abs=1e-4)
    assert found.correlation.item() == pytest.approx(-1.0, abs=1e-4)
    unrelated = structure(T1, torch.where(BODY, -0.7 + 1.6 * texture(7), -1.0))
    assert abs(unrelated.correlation.item()) < 0.4
    assert unrelated.mutual_information.item() < 0.4 and abs(unrelated.edges.item()) < 0.4
    assert unrelated.dice.item() > 0.97


def test_values_match_numpy() -> None:
    source, other = with_noise(T1), with_noise(T2, 0.2)
    body = body_mask(source[0, 0])[0].numpy()
    s, t = source[0, 0].numpy().astype(float), other[0, 0].numpy().astype(float)
    found = structure(source, other)
    assert found.correlation.item() == pytest.approx(np.corrcoef(s[body], t[body])[0, 1], abs=1e-4)
    steep = [np.sqrt(sum(g**2 for g in np.gradient(v)))[1:-1, 1:-1, 1:-1] for v in (s, t)]
    deep = body.copy()
    for shift in itertools.product(range(-2, 3), repeat=3):
        deep &= np.roll(body, shift, (0, 1, 2))
    # At the faces the two take different differences; the body stays away from them.
    inner = deep[1:-1, 1:-1, 1:-1]
    assert inner.sum() == deep.sum() > 0.3 * body.sum()
    expected = np.corrcoef(steep[0][inner], steep[1][inner])[0, 1]
    assert found.edges.item() == pytest.approx(expected, abs=1e-3)
    ranks = np.concatenate([t[body], t[~body]]).argsort(kind="stable").argsort()[: body.sum()]
    count = int(body.sum())
    order = (ranks.sum() - count * (count - 1) / 2) / (count * (~body).sum())
    assert found.order.item() == pytest.approx(order, abs=2e-3)


@pytest.mark.parametrize(("voxels", "alarm"), [(0, False), (1, False), (4, True), (8, True)])
def test_a_shifted_body(voxels: int, alarm: bool) -> None:
    found = structure(T1, with_noise(T2.roll(voxels, 3)))
    assert found.drifted.item() is alarm and not found.inverted
    assert found.lost.item() == pytest.approx(found.gained.item(), abs=0.03)
    expected = dice(BODY, BODY.roll(voxels, 3))
    assert found.dice.item() == pytest.approx(expected, abs=0.03)


def test_deleted_tissue() -> None:
    cut = T2.clone()
    cut[..., : int(0.34 * SIZE)] = -1.0
    found = structure(T1, with_noise(cut))
    share = 1.0 - (BODY & (cut > -1.0)).sum().item() / BODY.sum().item()
    assert 0.15 < share < 0.3
    assert found.lost.item() == pytest.approx(share, abs=0.03) and found.gained.item() < 0.03
    assert found.drifted and not found.inverted
    assert found.edges < structure(T1, with_noise(T2)).edges


def test_invented_tissue() -> None:
    grown = torch.where(distance() < 1.25, torch.where(BODY, T2, 0.2), -1.0)
    found = structure(T1, grown)
    assert found.gained.item() > 0.4 and found.lost.item() == 0.0
    assert found.drifted


def test_a_translation_that_shows_nothing() -> None:
    found = structure(T1, torch.full_like(T1, 0.3))
    assert found.drifted and not found.inverted
    assert found.dice.item() == 0.0 and found.order.item() == 0.5
    assert found.correlation.item() == 0.0 and found.edges.item() == 0.0
    assert found.mutual_information.item() == 0.0


@pytest.mark.parametrize("inside", [2.0 * texture() - 1.0, torch.full((1, 1, 9, 9, 9), -1.0)])
def test_without_visible_air_nothing_is_said_of_it(inside: Tensor) -> None:
    found = structure(inside, -inside)
    for value in (found.order, found.dice, found.lost, found.gained):
        assert math.isnan(value.item())
    assert not found.inverted and not found.drifted
    assert math.isfinite(found.correlation.item() + found.edges.item())


def test_each_volume_of_a_batch_for_itself() -> None:
    sources = torch.cat([T1, T1, 2.0 * texture() - 1.0])
    others = torch.cat([T2, -T1, texture()])
    found = structure(sources, others)
    assert found.inverted.tolist() == [False, True, False]
    for i in range(3):
        alone = structure(sources[i : i + 1], others[i : i + 1])
        assert found.edges[i] == alone.edges[0]
    metrics = structure_metrics(sources, others)
    assert metrics["inverted"].item() == pytest.approx(1 / 3)
    assert metrics["body_dice"].item() == pytest.approx(found.dice[:2].mean().item())
    assert set(metrics) == {
        "background_order",
        "body_dice",
        "edge_correlation",
        "mutual_information",
        "inverted",
        "drifted",
    }


def test_channels_layout_and_gradients(device: torch.device) -> None:
    source = torch.cat([T1, T1], 1).to(device).to(memory_format=torch.channels_last_3d)
    other = torch.cat([T2, T2], 1).to(device).requires_grad_()
    found = structure(source, other)
    assert found.dice.item() == pytest.approx(structure(T1, T2).dice.item(), abs=1e-5)
    assert not any(v.requires_grad for v in vars(found).values())


def test_large_volumes_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = structure(T1, T2)
    monkeypatch.setattr("fastgan.measures.structure.LARGEST", SIZE**3 // 8)
    coarse = structure(T1, T2)
    assert coarse.dice.item() == pytest.approx(fine.dice.item(), abs=0.03)
    assert coarse.dice != fine.dice


def test_rejects_shapes() -> None:
    with pytest.raises(ConfigError, match="of one shape"):
        structure(T1, T2[..., 1:])
    with pytest.raises(ConfigError, match=r"\[B, C, D, H, W\]"):
        structure(T1[0], T2[0])
