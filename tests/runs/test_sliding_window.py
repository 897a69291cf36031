"""Windows that are blended give back what one pass over the volume would."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError, NumericsError, ResourceLimit
from fastgan.ops.tensor_float import tensor_float32
from fastgan.runs.sliding_window import sliding_window, window_starts, window_weights

CASES = [
    # extents, window, overlap
    ((8, 8, 8), (8, 8, 8), 0.5),
    ((9, 16, 23), (8, 8, 8), 0.5),
    ((31, 17, 8), (8, 16, 8), 0.25),
    ((20, 13, 11), (7, 5, 1), 0.0),
    ((12, 40, 9), (6, 4, 9), 0.9),
    ((5, 5, 5), (1, 1, 1), 0.5),
]


def ident(case: object) -> str:
    return str(case).replace(" ", "")


@pytest.mark.parametrize(("extents", "window", "overlap"), CASES, ids=ident)
def test_windows_partition_the_volume(extents, window, overlap) -> None:
    for length, size in zip(extents, window, strict=True):
        starts = window_starts(length, size, overlap)
        assert starts[0] == 0 and starts[-1] == length - size
        assert all(0 < b - a <= size for a, b in itertools.pairwise(starts))
        step = max(1.0, size * (1.0 - overlap))
        assert len(starts) <= np.ceil((length - size) / step) + 1
        total = np.zeros(length)
        for start, weight in zip(starts, window_weights(length, size, starts), strict=True):
            assert (weight > 0.0).all()
            total[start : start + size] += weight
        assert np.abs(total - 1.0).max() < 1e-6


@pytest.mark.parametrize(("extents", "window", "overlap"), CASES, ids=ident)
def test_identity_gives_the_volume_back(extents, window, overlap) -> None:
    volume = torch.rand(2, *extents) * 2.0 - 1.0
    kept = volume.clone()
    out = sliding_window(lambda x: x, volume, window, overlap=overlap)
    assert out.dtype == torch.float32 and out.shape == volume.shape
    assert (out - volume).abs().max() < 1e-6
    assert torch.equal(volume, kept)


def test_windows_are_translated_in_float32() -> None:
    seen = []

    def network(x: Tensor) -> Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return x

    with tensor_float32(True):
        sliding_window(network, torch.zeros(1, 4, 4, 4), (4, 4, 4))
    assert seen == [False]


@pytest.mark.parametrize(("extents", "window", "overlap"), CASES, ids=ident)
def test_constant_stays_constant(extents, window, overlap) -> None:
    volume = torch.full((1, *extents), 0.37)
    out = sliding_window(lambda x: 0.5 - x, volume, window, overlap=overlap)
    assert (out - 0.13).abs().max() < 1e-6


def test_weights_fall_towards_the_edge() -> None:
    (middle,) = window_weights(40, 16, window_starts(40, 16, 0.5))[1:2]
    assert middle.argmax() in (7, 8)
    assert middle[0] < 0.01 and middle[-1] < 0.01
    # At the border of the volume no other window takes over.
    assert window_weights(40, 16, window_starts(40, 16, 0.5))[0][0] == pytest.approx(1.0)


def test_an_error_at_a_windows_edge_hardly_shows() -> None:
    def frame(x: Tensor) -> Tensor:
        out = torch.ones_like(x)
        out[..., 1:-1, 1:-1, 1:-1] = 0.0
        return out

    out = sliding_window(frame, torch.zeros(1, 40, 40, 40), (16, 16, 16), overlap=0.5)
    inner = out[:, 4:-4, 4:-4, 4:-4]
    assert 0.0 < inner.max() < 0.05
    assert out[0, 0, 20, 20] == pytest.approx(1.0, abs=1e-6)


def test_result_does_not_depend_on_the_batch_of_windows() -> None:
    sizes = []

    def step(x: Tensor) -> Tensor:
        sizes.append(x.shape[0])
        return torch.sin(3.0 * x)

    volume = torch.rand(1, 17, 12, 9)
    whole = [sliding_window(step, volume, (8, 8, 8), overlap=0.5, batch=b) for b in (1, 2, 5, 1000)]
    assert all(torch.equal(whole[0], other) for other in whole[1:])
    assert set(sizes) >= {1, 2, 5}
    convolution = nn.Conv3d(1, 1, 3, padding=1)
    one, five = (
        sliding_window(convolution, volume, (8, 8, 8), overlap=0.5, batch=b) for b in (1, 5)
    )
    assert torch.allclose(one, five, atol=1e-6) and not one.requires_grad


def test_channels_may_change() -> None:
    volume = torch.rand(1, 10, 9, 8)
    out = sliding_window(lambda x: torch.cat([x, -x], 1), volume, (4, 4, 4), overlap=0.5)
    assert torch.allclose(out, torch.cat([volume, -volume]), atol=1e-6)


def test_half_precision_is_summed_in_float32() -> None:
    volume = torch.full((1, 33, 8, 8), 1.0)
    out = sliding_window(lambda x: x.bfloat16(), volume, (8, 8, 8), overlap=0.75)
    assert (out - 1.0).abs().max() < 1e-6


def test_padding_mirrors_and_crops_back() -> None:
    volume = torch.rand(1, 3, 20, 5)
    seen = []

    def watch(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x

    out = sliding_window(watch, volume, (8, 8, 16), overlap=0.5, pad=True)
    assert (out - volume).abs().max() < 1e-6
    padded = np.pad(volume[0].numpy(), ((2, 3), (0, 0), (5, 6)), mode="symmetric")
    assert np.array_equal(seen[0][0, 0].numpy(), padded[:8, :8, :16])


def test_rejects_a_volume_smaller_than_the_window() -> None:
    with pytest.raises(ConfigError) as error:
        sliding_window(lambda x: x, torch.zeros(1, 9, 7, 8), (8, 8, 8), name="scan.nii.gz")
    for part in ("scan.nii.gz", "axis H", "7", "8", "smaller shape", "--pad"):
        assert part in str(error.value)


def test_rejects_what_cannot_work() -> None:
    volume = torch.zeros(1, 8, 8, 8)
    for settings in ({"overlap": 1.0}, {"overlap": -0.1}, {"overlap": np.nan}, {"batch": 0}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            sliding_window(lambda x: x, volume, (4, 4, 4), **settings)
    with pytest.raises(ConfigError, match="window"):
        sliding_window(lambda x: x, volume, (4, 0, 4))
    with pytest.raises(ConfigError, match="volume"):
        sliding_window(lambda x: x, volume[0], (4, 4, 4))
    with pytest.raises(ConfigError, match=r"\[B, C, 4, 4, 4\]"):
        sliding_window(lambda x: x[..., :2], volume, (4, 4, 4))
    with pytest.raises(NumericsError, match="NaN or infinity"):
        sliding_window(lambda x: x / 0.0, volume, (4, 4, 4), name="scan.nii")


def test_less_memory_gives_the_same_result() -> None:
    sizes = []

    def greedy(x: Tensor) -> Tensor:
        sizes.append(x.shape[0])
        if x.shape[0] > 2:
            raise torch.OutOfMemoryError("out of memory")
        return x.square()

    volume = torch.rand(1, 20, 12, 9)
    out = sliding_window(greedy, volume, (8, 8, 8), overlap=0.5, batch=8)
    assert torch.equal(out, sliding_window(greedy, volume, (8, 8, 8), overlap=0.5, batch=1))
    # Once is enough to learn what does not fit.
    assert sizes[:4] == [8, 4, 2, 2] and sizes.count(8) == 1

    def hopeless(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(ResourceLimit, match="one window"):
        sliding_window(hopeless, volume, (8, 8, 8))
