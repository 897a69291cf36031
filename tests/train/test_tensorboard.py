"""TensorBoard files: a faithful copy of metrics.jsonl and the pictures, each step once."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fastgan.errors import ConfigError
from fastgan.train import checkpoint, fit
from tests.conftest import NO_TENSORBOARD

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason=NO_TENSORBOARD
)


def events(run: Path) -> list[Any]:
    """Every event of every file, in the order TensorBoard reads them."""
    from tensorboardX.proto import event_pb2

    found = []
    for path in sorted((run / "tensorboard").glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            # Length, its checksum, the record, its checksum.
            (length,) = struct.unpack_from("<Q", content, at)
            found.append(event_pb2.Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def shown(run: Path) -> list[Any]:
    """What TensorBoard shows: a session that starts at a step voids earlier events from it on."""
    kept: list[Any] = []
    for event in events(run):
        if event.HasField("session_log"):
            kept = [e for e in kept if e.step < event.step]
        kept.append(event)
    return kept


def scalars(found: list[Any]) -> list[tuple[int, str, float]]:
    return [
        (event.step, value.tag, value.simple_value)
        for event in found
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def in_metrics(run: Path) -> list[tuple[int, str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], k, v) for r in rows for k, v in r.items() if k != "step" and v is not None]


def same(found: list[Any], wanted: list[Any]) -> None:
    assert [f[:2] for f in found] == [w[:2] for w in wanted]
    assert [f[2] for f in found] == pytest.approx([w[2] for w in wanted], rel=1e-6)


@needs_tensorboard
def test_every_figure_and_picture_once(tiny, tmp_path, quiet):
    config = tiny.tiny_config(steps=6, tensorboard=True)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet).path
    found = shown(run)
    same(scalars(found), in_metrics(run))
    pictures = [
        (event.step, value.image)
        for event in found
        for value in event.summary.value
        if value.HasField("image")
    ]
    assert [step for step, _ in pictures] == [3, 6]
    assert pictures[0][1].encoded_image_string.startswith(b"\x89PNG") and pictures[0][1].width > 128


@needs_tensorboard
def test_a_resumed_run_shows_no_step_twice(tiny, tmp_path, quiet):
    def go(steps: int, resume: Path | None) -> Path:
        config = tiny.tiny_config(steps=steps, tensorboard=True)
        variant, data = tiny.TinyVariant(), tiny.TinyDataset()
        return fit(variant, data, config, out=tmp_path, resume=resume, progress=quiet).path

    run = go(5, None)
    # As after a kill between the checkpoint of step 4 and the next one.
    shutil.rmtree(run / "ckpt-5")
    assert go(9, run) == run and checkpoint.newest(run).step == 9
    assert max(Counter(f[:2] for f in scalars(events(run))).values()) == 2
    same(scalars(shown(run)), in_metrics(run))


def test_a_missing_library_is_told_before_the_first_step(tiny, tmp_path, quiet, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    config = tiny.tiny_config(steps=6, tensorboard=True)
    with pytest.raises(ConfigError, match=r"pip install 'fastgan\[tb\]'"):
        fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert list(tmp_path.iterdir()) == []


@needs_tensorboard
def test_files_that_cannot_be_written_end_nothing(tiny, tmp_path, quiet):
    run = tiny.train(tmp_path, 2)
    (run / "tensorboard").write_text("in the way")
    config = tiny.tiny_config(steps=6, tensorboard=True)
    fit(tiny.TinyVariant(), tiny.TinyDataset(), config, resume=run, progress=quiet)
    assert checkpoint.newest(run).step == 6
    assert "tensorboard: not written: " in quiet._stream.getvalue()


def test_off_by_default(tiny, tmp_path):
    assert not (tiny.train(tmp_path, 2) / "tensorboard").exists()
