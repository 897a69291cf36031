"""A checkpoint that is damaged, forged or dangerous is refused, and the one before it is found."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil

import pytest
import safetensors.torch
import torch

from fastgan.errors import (
    CorruptFile,
    NumericsError,
    StateError,
    UnsafeFile,
)
from fastgan.train import checkpoint, manifest
from tests.train.saved import IDENTITY, parts, save, tree


def test_every_damaged_file_is_found(tmp_path):
    save(tmp_path, 1)
    good = save(tmp_path, 2)
    rng = random.Random(0)
    files = tree(good)
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
    path = save(tmp_path, 1) / manifest.NAME
    content = path.read_bytes()
    for bit in range(0, len(content) * 8, 11):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(flipped))
        with pytest.raises(CorruptFile):
            manifest.read(path.parent)


def test_missing_added_and_mixed_files(tmp_path):
    old, new = save(tmp_path, 1), save(tmp_path, 2, value=2.0)
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
    path = save(tmp_path, 1)
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
    save(tmp_path, 1)
    _forge(save(tmp_path, 2), format=3)
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
    path = save(tmp_path, 1)
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
    path = save(tmp_path, 1)
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
    state = parts()
    state["critic"]["w"][0, 1] = value
    with pytest.raises(NumericsError, match="critic/w"):
        checkpoint.save(tmp_path, 1, state, {}, IDENTITY)
    assert os.listdir(tmp_path) == []
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_check_finite", lambda where, parts: None)
        checkpoint.save(tmp_path, 1, state, {}, IDENTITY)
    with pytest.raises(NumericsError, match="critic/w"):
        checkpoint.read(tmp_path / "ckpt-1")
    with pytest.raises(StateError, match="NaN or infinity"):
        checkpoint.newest(tmp_path)
