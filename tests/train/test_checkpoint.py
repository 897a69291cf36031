"""Checkpoints: written whole or not at all, never overwritten, the newest found."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from fastgan import durable
from fastgan.errors import (
    BadFile,
    FastganError,
    ResourceLimit,
    StateError,
)
from fastgan.train import checkpoint
from tests.train.saved import IDENTITY, parts, save, tree


def test_round_trip(tmp_path):
    path = save(tmp_path, 20)
    found = checkpoint.newest(tmp_path)
    assert (found.path, found.step, found.counters) == (path, 20, {"step": 20})
    assert {key: found.identity[key] for key in IDENTITY} == IDENTITY
    for part, tensors in parts().items():
        assert found.parts[part].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found.parts[part][name].dtype == tensor.dtype
            assert torch.equal(found.parts[part][name], tensor)
    assert os.listdir(tmp_path) == ["ckpt-20"]


def test_hash_depends_on_every_tensor(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    same = {checkpoint.read(save(tmp_path / name, 1)).hash for name in ("a", "b")}
    other = checkpoint.read(save(tmp_path / "c", 1, value=1.5)).hash
    assert len(same) == 1 and other not in same


def test_newest_by_number_not_by_name(tmp_path):
    for step in (9, 10, 2):
        save(tmp_path, step)
    assert checkpoint.steps(tmp_path) == [10, 9, 2]
    assert checkpoint.newest(tmp_path).step == 10


def test_never_overwrites(tmp_path):
    before = tree(save(tmp_path, 1))
    with pytest.raises(StateError, match="never overwritten"):
        save(tmp_path, 1, value=2.0)
    assert tree(tmp_path / "ckpt-1") == before


def test_prune_and_set_aside(tmp_path):
    for step in range(5):
        save(tmp_path, step)
    (tmp_path / "ckpt-9.tmp").mkdir()
    checkpoint.prune(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == ["ckpt-3", "ckpt-4"]
    assert checkpoint.set_aside(tmp_path, 3) == [tmp_path / "ckpt-4.broken"]
    assert checkpoint.steps(tmp_path) == [3]


def test_little_space_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ResourceLimit, match="free disk"):
        save(tmp_path, 1)
    assert os.listdir(tmp_path) == []


class _Fault:
    """Fails the nth call of a function with an errno."""

    def __init__(self, function, number, at):
        self.function, self.number, self.left = function, number, at

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise OSError(self.number, os.strerror(self.number))
        return self.function(*args, **kwargs)


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_failing_system_call_loses_nothing(tmp_path, monkeypatch, call, number):
    save(tmp_path, 1)
    expected = ResourceLimit if number in (errno.ENOSPC, errno.EDQUOT) else BadFile
    failures = 0
    for at in range(1, 40):
        with monkeypatch.context() as patch:
            fault = _Fault(open if call == "open" else getattr(os, call), number, at)
            if call == "open":
                patch.setattr(durable, "open", fault, raising=False)
            else:
                patch.setattr(os, call, fault)
            try:
                save(tmp_path, 2)
            except FastganError as error:
                assert type(error) is expected and "ckpt-2" in str(error)
                failures += 1
            else:
                break
        newest = checkpoint.newest(tmp_path)
        assert newest.step in (1, 2) and not newest.skipped
        if newest.step == 2:
            # Only the last sync, of the parent's names, comes after the rename.
            assert call == "fsync"
            shutil.rmtree(tmp_path / "ckpt-2")
    assert failures >= 1
    assert checkpoint.newest(tmp_path).step == 2


def _save_for_ever(folder, step, pipe):
    while True:
        step += 1
        parts = {p: {"w": torch.full((4096,), float(step))} for p in ("generator", "critic")}
        checkpoint.save(folder, step, parts, {"step": step}, IDENTITY)
        checkpoint.prune(folder, 2)
        os.write(pipe, f"{step}\n".encode())


@pytest.mark.slow
def test_a_killed_save_loses_nothing(tmp_path, fork):
    rng, last = random.Random(1), 0
    for _ in range(15):
        ours, theirs = os.pipe()
        child = fork(lambda last=last, pipe=theirs: _save_for_ever(tmp_path, last, pipe))
        os.close(theirs)
        announced = os.read(ours, 1)
        time.sleep(rng.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        announced += os.read(ours, 10**6)
        os.close(ours)
        found = checkpoint.newest(tmp_path)
        assert found.step > last and not found.skipped
        assert found.step >= int(announced.split()[-1])
        assert torch.equal(found.parts["critic"]["w"], torch.full((4096,), float(found.step)))
        last = found.step


def test_reads_nothing_outside(tmp_path):
    with pytest.raises(BadFile, match="not a checkpoint folder"):
        checkpoint.read(tmp_path)
    with pytest.raises(BadFile, match="cannot read"):
        checkpoint.newest(tmp_path / "absent")
    with pytest.raises(StateError, match="has no ckpt"):
        checkpoint.newest(tmp_path)
    with pytest.raises(BadFile):
        checkpoint.read(Path(tmp_path / "ckpt-77"))
