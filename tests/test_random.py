from __future__ import annotations

import itertools

import numpy as np
import torch

from fastgan import random
from fastgan.random import Draws, placed_together


def test_golden_values():
    # A change here breaks the resuming of every run begun before it.
    got = Draws(7).normal(3, "latent", (4,))
    expected = [1.135895013809204, -0.3404800593852997, 1.3883305788040161, 0.3951103985309601]
    assert got.tolist() == expected
    assert Draws(0).numpy(0, "batch/critic/0").integers(0, 1000, 6).tolist() == [
        234,
        897,
        779,
        540,
        621,
        236,
    ]
    assert Draws(2**64 - 1).torch_generator(10**9, "x").initial_seed() == 4628477739893842750


def test_reproducible_and_stateless():
    draws = Draws(5)
    first = draws.normal(1, "a", (3, 2))
    draws.normal(2, "b", (100,))
    assert torch.equal(draws.normal(1, "a", (3, 2)), first)
    assert first.dtype == torch.float32 and first.shape == (3, 2)


def test_streams_are_distinct():
    keys = list(itertools.product((0, 1, 2**63), (0, 1, 2, 10**6), ("a", "b", "")))
    heads = {tuple(Draws(s).numpy(t, p).integers(0, 2**63, 4).tolist()) for s, t, p in keys}
    assert len(heads) == len(keys)


def test_steps_never_overlap():
    # A million draws of one step stay clear of the next step's stream.
    long = Draws(0).numpy(0, "a").integers(0, 2**64, 10**6, dtype=np.uint64)
    assert not np.isin(Draws(0).numpy(1, "a").integers(0, 2**64, 100, dtype=np.uint64), long).any()


def test_normal_is_standard():
    sample = Draws(1).normal(0, "a", (100_000,)).numpy()
    assert abs(sample.mean()) < 0.015
    assert abs(sample.std() - 1.0) < 0.01


DRAWN = {
    "latent": torch.arange(6.0).view(2, 3),
    "labels": torch.tensor([3, 1, 2]),
    "moves": torch.eye(3, dtype=torch.bool).T,
    "none": torch.empty(0, 4),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
}


def test_draws_together_are_themselves_on_the_host():
    found = placed_together(DRAWN, torch.device("cpu"))
    assert all(found[name] is tensor for name, tensor in DRAWN.items())


def test_draws_together_cross_to_a_gpu_in_one_copy_beside_the_kernels(monkeypatch):
    """A GPU is pretended: what is asked of its streams, in order; the bytes stay on the host."""
    done = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = name

        def wait_stream(self, other) -> None:
            done.append(f"{self.name} waits for {other.name}")

    class Inside:
        def __init__(self, stream) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            done.append(f"on {self.stream.name}")

        def __exit__(self, *_) -> None:
            done.append(f"off {self.stream.name}")

    class Block(torch.Tensor):
        def to(self, *args, **kwargs):
            done.append(f"copy {args[0]} {kwargs}")
            return self

        def record_stream(self, stream) -> None:
            done.append(f"kept for {stream.name}")

    def pin(tensor):
        done.append("pinned")
        return tensor.as_subclass(Block)

    random._stream_of_copies.cache_clear()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("copies"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("kernels"))
    monkeypatch.setattr(torch.cuda, "stream", Inside)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    found = placed_together(DRAWN, torch.device("cuda", 0))
    random._stream_of_copies.cache_clear()
    assert done == [
        "on copies",
        "pinned",
        "copy cuda:0 {'non_blocking': True}",
        "off copies",
        "kernels waits for copies",
        "kept for kernels",
    ]
    full = [name for name, tensor in DRAWN.items() if tensor.numel()]
    starts = [found[name].data_ptr() - found["latent"].data_ptr() for name in full]
    assert all(start % 256 == 0 for start in starts)
    for name, tensor in DRAWN.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].as_subclass(torch.Tensor), tensor), name
