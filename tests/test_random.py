from __future__ import annotations

import itertools

import numpy as np
import torch

from fastgan.random import Draws


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
