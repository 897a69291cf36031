"""Batches drawn ahead by several threads: the bits and order of one, and nothing left behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.data import Dataset, Item
from fastgan.data.augment import KINDS, apply, draw
from fastgan.data.workspace import Workspace
from fastgan.errors import CorruptFile
from fastgan.random import Draws, Shard
from fastgan.train import device as devices
from fastgan.train import fit
from fastgan.train.batches import Batches

CPU = torch.device("cpu")
EXTENT, SHAPE = (9, 11, 70), (6, 7, 64)


def volumes(dtype: type, channels: int = 1, **settings: Any) -> Dataset:
    """Five volumes of random voxels."""
    rng = np.random.default_rng(0)
    low, high = (0, 256) if dtype is np.uint8 else (-32767, 32768)
    stored = [rng.integers(low, high, (channels, *EXTENT)).astype(dtype) for _ in range(5)]
    return Dataset(
        stored,
        [Item(path=f"v{i}", subject=f"p{i}", label="ab"[i % 2]) for i in range(5)],
        shape=SHAPE,
        spacing=(1.0, 1.0, 2.0),
        normalisation={"kind": "none"},  # type: ignore[arg-type]
        fingerprint="f" * 64,
        **settings,
    )


def by_hand(data: Dataset, count: int, rng: np.random.Generator) -> torch.Tensor:
    """What `Dataset.sample` promises, one volume after the other, in whole arrays."""
    index = rng.integers(0, len(data), count)
    rows = []
    for i in index:
        corner = [(n - m) // 2 for n, m in zip(EXTENT, SHAPE, strict=True)]
        if data.patch:
            corner = [int(rng.integers(0, n - m + 1)) for n, m in zip(EXTENT, SHAPE, strict=True)]
        d, h, w = (slice(c, c + m) for c, m in zip(corner, SHAPE, strict=True))
        crop = data.stored[i][:, d, h, w].astype(np.float32)
        if data.stored[i].dtype == np.uint8:
            rows.append(crop * np.float32(2.0 / 255.0) - np.float32(1.0))
        else:
            rows.append(crop * np.float32(1.0 / 32767))
    whole = torch.from_numpy(np.stack(rows))
    return apply(whole, draw(data.classic, count, rng), data.spacing) if data.classic else whole


@pytest.mark.parametrize("classic", [(), *((kind,) for kind in KINDS), KINDS], ids="+".join)
@pytest.mark.parametrize(
    ("dtype", "channels", "patch"),
    [(np.int16, 1, True), (np.int16, 3, False), (np.uint8, 1, False), (np.uint8, 2, True)],
)
def test_any_number_of_threads_gives_the_bits_of_one(
    dtype: type, channels: int, patch: bool, classic: tuple[str, ...]
) -> None:
    data = volumes(dtype, channels, patch=patch, classic=classic)
    expected = by_hand(data, 6, np.random.default_rng(4))
    for threads in (1, 2, 5):
        workspace = Workspace(threads)
        batch = data.sample(6, np.random.default_rng(4), workspace=workspace)
        workspace.close()
        assert torch.equal(batch.volumes, expected)
        assert batch.volumes.is_contiguous(memory_format=torch.channels_last_3d)


def test_large_volumes_are_scaled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = volumes(np.int16, 2, patch=True)
    expected = by_hand(data, 3, np.random.default_rng(1))
    for piece in (1, 1000, 2 * 4 * 7 * 64):
        monkeypatch.setattr("fastgan.data.cache.PIECE", piece)
        assert torch.equal(data.sample(3, np.random.default_rng(1)).volumes, expected)


def test_batches_ahead_are_those_of_a_run_that_never_stopped() -> None:
    data = volumes(np.int16, patch=True, classic=("flip",))
    shards = [None, Shard(1, 2)]
    for shard, threads in product(shards, (1, 3)):
        plain = Batches(data, 4, Draws(3, shard), CPU, ahead=False)
        expected = [plain.next(step, p) for step in range(6) for p in "ab"]
        for first in (0, 4):
            ahead = Batches(data, 4, Draws(3, shard), CPU, ahead=True, threads=threads)
            found = [ahead.next(step, p) for step in range(first, 6) for p in "ab"]
            ahead.close()
            for one, other in zip(found, expected[2 * first :], strict=True):
                assert torch.equal(one.volumes, other.volumes)
                assert torch.equal(one.index, other.index)


class Damaged(np.ndarray):
    """A stored volume whose file was changed."""

    def __getitem__(self, key: Any) -> Any:
        raise CorruptFile("v3: changed while it was in use")


def test_an_error_of_a_thread_is_raised_by_the_step_that_needs_the_batch() -> None:
    data = volumes(np.int16)
    data.stored = [a.view(Damaged) if i == 3 else a for i, a in enumerate(data.stored)]
    draws = Draws(0)
    bad = [3 in draws.numpy(s, "batch/a").integers(0, 5, 2) for s in range(20)].index(True)
    assert bad > 0, "the first batch is sound"
    batches = Batches(data, 2, draws, CPU, ahead=True, threads=2)
    for step in range(bad):
        batches.next(step, "a")
    with pytest.raises(CorruptFile, match="v3"):
        batches.next(bad, "a")
    batches.close()
    assert not own_threads()


def own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fastgan-")]


def test_nothing_is_left_of_a_run_that_ends_early(tiny: Any, tmp_path: Any, quiet: Any) -> None:
    class Ahead(Batches):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named, ahead=True, threads=3)

    class Failing(tiny.TinyVariant):
        def phases(self, step: int, *given: Any) -> Iterator[Any]:
            yield from super().phases(step, *given)
            if step == 2:
                assert own_threads()
                raise CorruptFile("planted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastgan.train.loop.Batches", Ahead)
        with pytest.raises(CorruptFile, match="planted"):
            fit(Failing(), tiny.TinyDataset(), tiny.tiny_config(), out=tmp_path, progress=quiet)
    assert not own_threads()


class Slow:
    """Seconds for each batch."""

    def __init__(self, data: Dataset, seconds: float) -> None:
        self._data, self._seconds = data, seconds

    def sample(self, batch_size: int, rng: np.random.Generator) -> Any:
        time.sleep(self._seconds)
        return self._data.sample(batch_size, rng)


@pytest.mark.parametrize("ahead", [False, True])
def test_waiting_is_counted_where_the_loader_is_slow(ahead: bool) -> None:
    source: Any = Slow(volumes(np.int16), 0.02)
    batches = Batches(source, 2, Draws(0), CPU, ahead=ahead)
    for step in range(5):
        batches.next(step, "a")
    batches.close()
    assert batches.waited >= 0.08


def test_nothing_is_waited_for_where_batches_are_ahead() -> None:
    batches = Batches(volumes(np.int16), 2, Draws(0), CPU, ahead=True, threads=2)
    batches.next(0, "a")
    first = batches.waited
    for step in range(1, 6):
        # The networks compute; here, until the next batch is there.
        batches._ahead[step, "a"].result()
        batches.next(step, "a")
    batches.close()
    # Five takings of what is there cost microseconds; the bound is for a machine that is busy.
    assert batches.waited - first < 0.05


def test_metrics_have_the_share_of_time_that_steps_waited(
    tiny: Any, tmp_path: Any, quiet: Any
) -> None:
    class Delayed(tiny.TinyDataset):
        def sample(self, *given: Any) -> Any:
            time.sleep(0.2)
            return super().sample(*given)

    shares = []
    for data in (tiny.TinyDataset(), Delayed()):
        config = tiny.tiny_config(steps=3, sample_every=100, checkpoint_every=100)
        run = fit(tiny.TinyVariant(), data, config, out=tmp_path, progress=quiet)
        rows = [json.loads(r) for r in (run.path / "metrics.jsonl").read_text().splitlines()]
        assert all(0.0 <= row["data_wait"] <= 1.0 for row in rows)
        shares.append(np.median([row["data_wait"] for row in rows]))
    assert shares[0] < shares[1] and shares[1] > 0.3


def test_copies_start_beside_the_kernels_which_wait_for_their_arrival(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a pretended GPU: which stream does what, in which order."""
    done: list[str] = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = str(name)

        def record_event(self) -> str:
            done.append(f"{self.name} notes the arrival")
            return "arrival"

        def wait_event(self, event: str) -> None:
            done.append(f"{self.name} waits for the {event}")

    class Tensor:
        def pin_memory(self) -> Tensor:
            return self

        def to(self, device: object, non_blocking: bool) -> Tensor:
            assert non_blocking
            done.append(f"{active[-1]} copies to {device}")
            return self

        def record_stream(self, stream: Stream) -> None:
            done.append(f"memory is kept for {stream.name}")

    active = ["kernels"]

    @contextmanager
    def using(stream: Stream) -> Iterator[None]:
        active.append(stream.name)
        yield
        active.pop()

    pretended = SimpleNamespace(
        Stream=lambda device: Stream("side"),
        stream=using,
        current_stream=lambda device: Stream(active[-1]),
    )
    monkeypatch.setattr(devices.torch, "cuda", pretended)
    copies = devices.Copies("gpu")  # type: ignore[arg-type]
    sent = copies.send({"volumes": Tensor()})  # type: ignore[dict-item]
    assert copies.receive(sent) is sent.tensors
    assert done == [
        "side copies to gpu",
        "side notes the arrival",
        "kernels waits for the arrival",
        "memory is kept for kernels",
    ]
