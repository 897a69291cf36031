from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fastgan import durable
from fastgan.errors import (
    BadFile,
    CorruptFile,
    FastganError,
    NumericsError,
    ResourceLimit,
    StateError,
    UnsafeFile,
)
from fastgan.train import checkpoint, manifest

IDENTITY = {"settings": {"seed": 0}, "data": {"fingerprint": "d" * 64}}


def _parts(value=1.0):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 3, 3, 3, 3, generator=generator) * value
    return {
        "generator": {
            "w": weight.to(memory_format=torch.channels_last_3d),
            "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        },
        "critic": {"w": torch.arange(6.0).reshape(2, 3).T, "count": torch.tensor(3)},
        "optimiser.critic": {"w.step": torch.tensor(4.0), "w.exp_avg": torch.zeros(0)},
    }


def _save(folder, step, value=1.0):
    return checkpoint.save(folder, step, _parts(value), {"step": step}, IDENTITY)


def _tree(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def test_round_trip(tmp_path):
    path = _save(tmp_path, 20)
    found = checkpoint.newest(tmp_path)
    assert (found.path, found.step, found.counters) == (path, 20, {"step": 20})
    assert {key: found.identity[key] for key in IDENTITY} == IDENTITY
    for part, tensors in _parts().items():
        assert found.parts[part].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found.parts[part][name].dtype == tensor.dtype
            assert torch.equal(found.parts[part][name], tensor)
    assert os.listdir(tmp_path) == ["ckpt-20"]


def test_hash_depends_on_every_tensor(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    same = {checkpoint.read(_save(tmp_path / name, 1)).hash for name in ("a", "b")}
    other = checkpoint.read(_save(tmp_path / "c", 1, value=1.5)).hash
    assert len(same) == 1 and other not in same


def test_newest_by_number_not_by_name(tmp_path):
    for step in (9, 10, 2):
        _save(tmp_path, step)
    assert checkpoint.steps(tmp_path) == [10, 9, 2]
    assert checkpoint.newest(tmp_path).step == 10


def test_every_damaged_file_is_found(tmp_path):
    _save(tmp_path, 1)
    good = _save(tmp_path, 2)
    rng = random.Random(0)
    files = _tree(good)
    assert len(files) == 5
    damaged = 0
    for name, content in files.items():
        bit = rng.randrange(len(content) * 8)
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        zeroed = content[:-8] + bytes(8) if content[-8:] != bytes(8) else b"\1" + content[1:]
        for bad in (bytes(flipped), zeroed, content[: len(content) // 2], b"", content + b" "):
            (good / name).write_bytes(bad)
            with pytest.raises(CorruptFile, match="ckpt-2"):
                checkpoint.read(good)
            found = checkpoint.newest(tmp_path)
            assert found.step == 1 and len(found.skipped) == 1 and name in found.skipped[0]
            damaged += 1
        (good / name).write_bytes(content)
    assert damaged == 25
    assert checkpoint.newest(tmp_path).step == 2


def test_every_bit_of_a_manifest(tmp_path):
    path = _save(tmp_path, 1) / manifest.NAME
    content = path.read_bytes()
    for bit in range(0, len(content) * 8, 11):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(flipped))
        with pytest.raises(CorruptFile):
            manifest.read(path.parent)


def test_missing_added_and_mixed_files(tmp_path):
    old, new = _save(tmp_path, 1), _save(tmp_path, 2, value=2.0)
    (new / "critic.safetensors").rename(tmp_path / "kept")
    with pytest.raises(CorruptFile, match=r"missing \['critic.safetensors'\]"):
        checkpoint.read(new)
    (tmp_path / "kept").rename(new / "critic.safetensors")
    (new / "extra.json").write_text("{}")
    with pytest.raises(CorruptFile, match="unknown to the manifest"):
        checkpoint.read(new)
    (new / "extra.json").unlink()
    shutil.copy(old / "generator.safetensors", new / "generator.safetensors")
    with pytest.raises(CorruptFile, match=r"generator.safetensors: content differs"):
        checkpoint.read(new)
    shutil.copytree(old, tmp_path / "ckpt-3")
    with pytest.raises(CorruptFile, match="manifest is of step 1"):
        checkpoint.read(tmp_path / "ckpt-3")
    (old / manifest.NAME).unlink()
    with pytest.raises(CorruptFile, match="missing"):
        checkpoint.read(old)
    with pytest.raises(StateError, match=r"no usable checkpoint: .*ckpt-3.*ckpt-2.*ckpt-1"):
        checkpoint.newest(tmp_path)


def _forge(path, **changes):
    """Edit a manifest and make its own hash right again."""
    content = json.loads((path / manifest.NAME).read_text()) | changes
    content.pop("sha256")
    digest = hashlib.sha256(manifest.encode(content)).hexdigest()
    (path / manifest.NAME).write_bytes(manifest.encode(content | {"sha256": digest}))


def test_forged_manifests(tmp_path):
    path = _save(tmp_path, 1)
    files = json.loads((path / manifest.NAME).read_text())["files"]
    for changes in (
        {"files": 3},
        {"step": "1"},
        {"files": {"../x": {}}},
        {"files": {**files, "state.json": {}}},
    ):
        _forge(path, **changes)
        with pytest.raises(CorruptFile):
            checkpoint.read(path)
    _forge(path, files=files, step=1)
    assert checkpoint.read(path).step == 1
    nonsense = b"\xff" * 64
    (path / "critic.safetensors").write_bytes(nonsense)
    entry = {"size": 64, "sha256": hashlib.sha256(nonsense).hexdigest()}
    _forge(path, files={**files, "critic.safetensors": entry})
    with pytest.raises(CorruptFile, match="not a safetensors file"):
        checkpoint.read(path)


def test_newer_format_is_not_skipped(tmp_path):
    _save(tmp_path, 1)
    _forge(_save(tmp_path, 2), format=3)
    with pytest.raises(StateError, match="format 3"):
        checkpoint.newest(tmp_path)


class _Canary:
    def __reduce__(self):
        return (open, ("canary", "w"))


def test_a_header_length_may_spell_a_pickle_s_first_bytes(tmp_path):
    """Lengths are multiples of 8; little-endian 640, 896, 1152 and 1408 begin like pickles."""
    found = set()
    for name in range(500, 1500):
        parts = {"generator": {"w" * name: torch.arange(3.0)}}
        content = safetensors.torch.save(parts["generator"])
        if content[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            if content[:2] in found:
                continue
            found.add(content[:2])
            folder = checkpoint.save(_fresh(tmp_path / str(name)), 1, parts, {}, IDENTITY)
            read = checkpoint.read(folder).parts["generator"]["w" * name]
            assert torch.equal(read, torch.arange(3.0))
    assert len(found) == 4


def _fresh(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "state.pkl", "weights.safetensors"])
def test_pickles_are_refused_unread(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = _save(tmp_path, 1)
    (path / name).write_bytes(pickle.dumps(_Canary()))
    for read in (lambda: checkpoint.read(path), lambda: checkpoint.newest(tmp_path)):
        with pytest.raises(UnsafeFile, match="convert it: safetensors"):
            read()
    loose = tmp_path / name
    torch.save({"w": torch.ones(1)}, loose)
    with pytest.raises(UnsafeFile, match="pickle"):
        checkpoint.read(loose)
    assert not (tmp_path / "canary").exists()


def test_links_and_pipes_are_refused(tmp_path):
    path = _save(tmp_path, 1)
    target = tmp_path / "elsewhere"
    (path / "state.json").rename(target)
    (path / "state.json").symlink_to(target)
    with pytest.raises(UnsafeFile, match="a link"):
        checkpoint.read(path)
    (path / "state.json").unlink()
    os.mkfifo(path / "state.json")
    with pytest.raises(UnsafeFile, match="pipe"):
        checkpoint.read(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_state_is_refused(tmp_path, value, monkeypatch):
    parts = _parts()
    parts["critic"]["w"][0, 1] = value
    with pytest.raises(NumericsError, match="critic/w"):
        checkpoint.save(tmp_path, 1, parts, {}, IDENTITY)
    assert os.listdir(tmp_path) == []
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_check_finite", lambda where, parts: None)
        checkpoint.save(tmp_path, 1, parts, {}, IDENTITY)
    with pytest.raises(NumericsError, match="critic/w"):
        checkpoint.read(tmp_path / "ckpt-1")
    with pytest.raises(StateError, match="NaN or infinity"):
        checkpoint.newest(tmp_path)


def test_never_overwrites(tmp_path):
    before = _tree(_save(tmp_path, 1))
    with pytest.raises(StateError, match="never overwritten"):
        _save(tmp_path, 1, value=2.0)
    assert _tree(tmp_path / "ckpt-1") == before


def test_prune_and_set_aside(tmp_path):
    for step in range(5):
        _save(tmp_path, step)
    (tmp_path / "ckpt-9.tmp").mkdir()
    checkpoint.prune(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == ["ckpt-3", "ckpt-4"]
    assert checkpoint.set_aside(tmp_path, 3) == [tmp_path / "ckpt-4.broken"]
    assert checkpoint.steps(tmp_path) == [3]


def test_little_space_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ResourceLimit, match="free disk"):
        _save(tmp_path, 1)
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
    _save(tmp_path, 1)
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
                _save(tmp_path, 2)
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
