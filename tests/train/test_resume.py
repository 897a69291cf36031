"""Stopped or killed anywhere, a resumed run repeats an uninterrupted one bit for bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time

import pytest
import torch

from fastgan.errors import StateError
from fastgan.train import checkpoint, fit

STEPS = 14


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A forked child has one thread; sums split over another number round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(one_thread, tiny, tmp_path_factory):
    """An uninterrupted run."""
    return tiny.train(tmp_path_factory.mktemp("whole"), STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_and_resumed_equals_uninterrupted(tiny, tmp_path, whole, fork, seed):
    rng = random.Random(seed)
    child = fork(lambda: tiny.train(tmp_path, STEPS, slow=0.02))
    target = rng.randrange(1, STEPS - 3)
    while not any(f.read_text().count("\n") >= target for f in tmp_path.glob("*/metrics.jsonl")):
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, 0.03))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (killed,) = tmp_path.iterdir()
    tiny.train(tmp_path, STEPS, resume=killed)
    assert tiny.rows(killed) == tiny.rows(whole)
    tiny.same_state(killed, whole)


@pytest.mark.parametrize("stop", [1, 3, 4, 13])
def test_every_kind_of_step_resumes(tiny, tmp_path, whole, quiet, stop):
    run = fit(
        tiny.TinyVariant(),
        tiny.TinyDataset(),
        tiny.tiny_config(steps=stop),
        out=tmp_path,
        progress=quiet,
    )
    variant = tiny.TinyVariant()
    with torch.no_grad():
        # Nothing of the fresh variant may survive the restoring.
        for module in variant.modules.values():
            for parameter in module.parameters():
                parameter.normal_()
    config = tiny.tiny_config(steps=STEPS)
    fit(variant, tiny.TinyDataset(), config, resume=run.path, progress=quiet)
    assert tiny.rows(run.path) == tiny.rows(whole)
    tiny.same_state(run.path, whole)
    pictures = sorted(p.name for p in (run.path / "samples").iterdir())
    for name in (p.name for p in (whole / "samples").iterdir()):
        assert name in pictures
        assert (run.path / "samples" / name).read_bytes() == (whole / "samples" / name).read_bytes()


def test_resumes_from_the_very_beginning(tiny, tmp_path, whole):
    run = tiny.train(tmp_path, 1)
    shutil.rmtree(run / "ckpt-1")
    tiny.train(tmp_path, STEPS, resume=run)
    assert tiny.rows(run) == tiny.rows(whole)
    tiny.same_state(run, whole)


def test_a_broken_newest_checkpoint_is_set_aside(tiny, tmp_path, whole, quiet):
    config = tiny.tiny_config(steps=8)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    broken = run.path / "ckpt-8" / "critic.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1])
    config = tiny.tiny_config(steps=STEPS)
    fit(tiny.TinyVariant(), tiny.TinyDataset(), config, resume=run.path, progress=quiet)
    said = quiet._stream.getvalue()
    assert "ckpt-8.broken: set aside" in said and "critic.safetensors: " in said
    assert tiny.rows(run.path) == tiny.rows(whole)
    tiny.same_state(run.path, whole)


def test_other_architecture_loads_nothing(tiny, tmp_path, quiet):
    config = tiny.tiny_config(steps=2)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    wider = tiny.TinyVariant(width=9)
    before = {n: t.clone() for n, t in wider.modules["critic"].state_dict().items()}
    with pytest.raises(StateError, match=r"generator/0.weight: float32 \[8, 3\] saved") as caught:
        fit(wider, tiny.TinyDataset(), tiny.tiny_config(steps=4), resume=run.path, progress=quiet)
    assert "more" in str(caught.value)
    for name, tensor in wider.modules["critic"].state_dict().items():
        assert torch.equal(tensor, before[name])


def test_missing_part_of_the_state(tiny, tmp_path, quiet):
    config = tiny.tiny_config(steps=2)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    found = checkpoint.newest(run.path)
    parts = {name: part for name, part in found.parts.items() if name != "optimiser.critic"}
    identity = {key: found.identity[key] for key in ("settings", "data")}
    checkpoint.save(run.path, 3, parts, found.counters | {"step": 3}, identity)
    config = tiny.tiny_config(steps=4)
    with pytest.raises(StateError, match=r"optimiser.critic/.*: missing"):
        fit(tiny.TinyVariant(), tiny.TinyDataset(), config, resume=run.path, progress=quiet)


def test_resuming_a_finished_run_changes_nothing(tiny, tmp_path, quiet):
    config = tiny.tiny_config(steps=4)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    before = tiny.rows(run.path), checkpoint.newest(run.path).hash
    fit(tiny.TinyVariant(), tiny.TinyDataset(), resume=run.path, progress=quiet)
    assert (tiny.rows(run.path), checkpoint.newest(run.path).hash) == before
    fewer = tiny.tiny_config(steps=3)
    with pytest.raises(StateError, match=r"4 steps behind it, train.steps is 3"):
        fit(tiny.TinyVariant(), tiny.TinyDataset(), fewer, resume=run.path, progress=quiet)


def test_threads_are_those_of_the_beginning(tiny, tmp_path, quiet):
    before = torch.get_num_threads()
    config = tiny.tiny_config(steps=2)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    torch.set_num_threads(before + 1)
    try:
        config = tiny.tiny_config(steps=4)
        fit(tiny.TinyVariant(), tiny.TinyDataset(), config, resume=run.path, progress=quiet)
        assert checkpoint.newest(run.path).counters["threads"] == before
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
