"""A run folder from somebody else: nothing outside it is read or written, and nothing waits."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from fastgan.errors import BadFile, CorruptFile, FastganError, StateError, UnsafeFile
from fastgan.guarded import append_to
from fastgan.train import RunFolder, checkpoint, fit, history, lock
from fastgan.train.page import write_page

CANARY = b"somebody's thesis\n"
TOP = ("config.yaml", "data.json", "env.json", "command.txt", "metrics.jsonl", "history.jsonl")


@pytest.fixture
def run(tiny, tmp_path, quiet):
    config = tiny.tiny_config(steps=2)
    return fit(
        tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path / "runs", progress=quiet
    )


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_bytes(CANARY)
    return path


def _resume(tiny, run, quiet, steps=4):
    config = tiny.tiny_config(steps=steps)
    return fit(
        tiny.TinyVariant(), tiny.TinyDataset(), config, resume=run.path, progress=quiet, command=[]
    )


def _replace(path, make):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path)


@pytest.mark.parametrize("name", [*TOP, "lock", "samples", "run.html", "ckpt-2", "ckpt-4.tmp"])
def test_links_refuse_the_folder(tiny, run, canary, quiet, name):
    place = canary.parent / "elsewhere"
    place.mkdir()
    target = place if name == "samples" or name.startswith("ckpt") else canary
    _replace(run.path / name, lambda path: path.symlink_to(target))
    for use in (_resume, lambda *_: write_page(run.path), lambda *_: RunFolder(run.path)):
        with pytest.raises(UnsafeFile, match=name):
            use(tiny, run, quiet)
    assert canary.read_bytes() == CANARY
    assert not list(place.iterdir())


@pytest.mark.parametrize("name", ["lock", "command.txt", "metrics.jsonl", "history.jsonl"])
def test_what_has_another_name_elsewhere_is_not_written(run, canary, name):
    _replace(run.path / name, lambda path: os.link(canary, path))
    writes = {
        "lock": lambda: lock.hold(run.path).__enter__(),
        "command.txt": lambda: append_to(run.path / name, b"x"),
        "metrics.jsonl": lambda: run.append_metrics({"step": 3}),
        "history.jsonl": lambda: history.note(run.path, "begun", 2),
    }
    with pytest.raises(UnsafeFile, match=rf"{name}.*another name"):
        writes[name]()
    assert canary.read_bytes() == CANARY


@pytest.mark.parametrize("name", [*TOP, "lock", "samples"])
def test_pipes_refuse_the_folder_at_once(tiny, run, quiet, name):
    _replace(run.path / name, os.mkfifo)
    for use in (_resume, lambda *_: write_page(run.path), lambda *_: RunFolder(run.path)):
        with pytest.raises(UnsafeFile, match=name):
            use(tiny, run, quiet)


def test_what_is_put_there_later_is_refused_too(run, canary):
    for name in ("config.yaml", "data.json", "metrics.jsonl", "history.jsonl", "lock"):
        _replace(run.path / name, lambda path: path.symlink_to(canary))
    for use in (
        run.config,
        run.data,
        lambda: run.append_metrics({"step": 3}),
        lambda: run.cut_metrics(1),
        lambda: history.note(run.path, "begun", 2),
        lambda: history.read(run.path),
        lambda: lock.hold(run.path).__enter__(),
    ):
        with pytest.raises(UnsafeFile):
            use()
    assert not lock.held(run.path)
    assert canary.read_bytes() == CANARY


@pytest.mark.parametrize("name", [*TOP[:2], "command.txt", "metrics.jsonl", "lock"])
def test_giants_are_refused(tiny, run, quiet, name):
    with open(run.path / name, "ab") as file:
        file.truncate(1 << 42)
    with pytest.raises(FastganError, match=name):
        _resume(tiny, run, quiet)


@pytest.mark.parametrize("name", TOP[:2])
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{", b"[" * 100_000, b"1" * 9000])
def test_other_content_is_refused(tiny, run, quiet, name, content):
    (run.path / name).write_bytes(content)
    with pytest.raises(FastganError, match=name):
        _resume(tiny, run, quiet)


@pytest.mark.parametrize(
    "content",
    [
        "seed: " + ":".join(["1"] * 40_000),
        "seed: !!int ''",
        "seed: !!bool x",
        "seed: !!timestamp x",
        "seed: 2001-99-99",
        "seed: 0x" + "f" * 20_000,
        "seed: 1e999999999",
        "name: " + "a" * 300,
        "train: {steps: 1000000000000000000000000}",
        "model: {latent_dim: 1000000000000}",
        "seed: " + "x" * 900_000,
        "\n".join(f"k{i}: 1" for i in range(20_000)),
    ],
)
def test_yaml_that_no_parser_expects(tmp_path, content):
    from fastgan.config import load

    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(FastganError, match=r"config\.yaml") as caught:
        load(path)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed: 0", "seed: 1"),
        ("lr_critic: 0.0001", "lr_critic: 0.0003"),
        ("batch_size: 4", "batch_size: 5"),
    ],
)
def test_a_changed_configuration_is_noticed(tiny, run, quiet, old, new):
    path = run.path / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = checkpoint.newest(run.path)
    with pytest.raises(StateError, match=rf"config\.yaml.*{new.partition(':')[0]}"):
        RunFolder(run.path).require_same(found)
    with pytest.raises(StateError, match=new.partition(":")[0]):
        fit(tiny.TinyVariant(), tiny.TinyDataset(), resume=run.path, progress=quiet)


def test_a_changed_record_of_the_data_is_noticed(tiny, run, quiet):
    path = run.path / "data.json"
    content = json.loads(path.read_bytes())
    content["normalisation"]["low"] = -2048.0
    path.write_text(json.dumps(content))
    with pytest.raises(StateError, match=r"data\.json.*normalisation\.low"):
        RunFolder(run.path).require_same(checkpoint.newest(run.path))
    with pytest.raises(StateError, match=r"data\.json.*normalisation\.low"):
        _resume(tiny, run, quiet)


def test_keys_that_may_change_are_no_change(run):
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("log_every: 1", "log_every: 7"))
    RunFolder(run.path).require_same(checkpoint.newest(run.path))


def test_a_change_on_purpose_is_saved_with_the_next_step(tiny, run, quiet):
    config = tiny.tiny_config(steps=3, batch_size=3, checkpoint_every=100)
    allow = ["train.batch_size"]
    data = tiny.TinyDataset()
    fit(tiny.TinyVariant(), data, config, resume=run.path, allow_change=allow, progress=quiet)
    RunFolder(run.path).require_same(checkpoint.newest(run.path))
    with pytest.raises(StateError, match="batch_size"):
        RunFolder(run.path).require_same(checkpoint.read(run.path / "ckpt-2"))


def test_older_checkpoints_after_a_change_on_purpose(tiny, run, quiet):
    config = tiny.tiny_config(steps=3, batch_size=3)
    data = tiny.TinyDataset()
    data.spacing, data.fingerprint = (1.0, 1.0, 3.0), "e" * 64
    allow = ["train.batch_size", "data.fingerprint"]
    fit(tiny.TinyVariant(), data, config, resume=run.path, allow_change=allow, progress=quiet)
    folder = RunFolder(run.path)
    older, newer = checkpoint.read(run.path / "ckpt-2"), checkpoint.newest(run.path)
    then, now = folder.as_of(older), folder.as_of(newer)
    assert (then.config().train.batch_size, now.config().train.batch_size) == (4, 3)
    assert (then.data()["spacing"][2], now.data()["spacing"][2]) == (2.0, 3.0)
    then.require_same(older)
    assert now is folder and folder.config().train.batch_size == 3
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 3", "batch_size: 5"))
    for found in (older, newer):
        with pytest.raises(StateError, match="batch_size"):
            folder.as_of(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"threads": 10**9},
        {"threads": 0},
        {"threads": "2"},
        {"threads": True},
        {"skipped": {"critic": -1}},
        {"skipped": [1]},
        {"updates": {"critic": "critic"}},
        {"updates": [["critic"]]},
        {"volumes": 1.5},
        {"volumes": None},
        {"step": 7},
        {"extra": 1},
    ],
)
def test_counters_of_the_wrong_kind_are_refused(tiny, run, quiet, changes):
    found = checkpoint.newest(run.path)
    shutil.rmtree(found.path)
    for path in run.path.glob("ckpt-*"):
        shutil.rmtree(path)
    identity = {key: found.identity[key] for key in ("settings", "data")}
    checkpoint.save(run.path, 2, found.parts, found.counters | changes, identity)
    with pytest.raises(CorruptFile, match=rf"state\.json.*{next(iter(changes))}"):
        _resume(tiny, run, quiet)


def test_killed_before_its_first_checkpoint(tiny, tmp_path, quiet):
    whole = tiny.train(tmp_path / "whole", 4)
    data = tiny.TinyDataset()
    from fastgan.train.build import describe

    config = tiny.tiny_config(steps=4).settled()
    killed = RunFolder.create(tmp_path / "runs", config, describe(data), ["fastgan"])
    (killed.path / "ckpt-0.tmp").mkdir()
    (killed.path / ".data.json.99999999.partial").write_bytes(b"half")
    tiny.train(tmp_path, 4, resume=killed.path)
    assert tiny.rows(killed.path) == tiny.rows(whole)
    tiny.same_state(killed.path, whole)
    assert not [*killed.path.glob("*.tmp"), *killed.path.glob(".*.partial")]


def test_without_checkpoints_but_with_metrics_nothing_is_begun_anew(tiny, run, quiet):
    for path in run.path.glob("ckpt-*"):
        shutil.rmtree(path)
    before = (run.path / "metrics.jsonl").read_bytes()
    with pytest.raises(StateError, match="no usable checkpoint"):
        _resume(tiny, run, quiet)
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_a_removed_lock_admits_nobody(run):
    with run.locked():
        (run.path / "lock").unlink()
        with pytest.raises(StateError, match="in use"), run.locked():
            pass
    with run.locked():
        pass


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a/" * 3000])
def test_names_that_no_file_can_have(tiny, tmp_path, quiet, name):
    with pytest.raises(BadFile):
        RunFolder(tmp_path / name)
    with pytest.raises(FastganError):
        fit(tiny.TinyVariant(), tiny.TinyDataset(), out=tmp_path / name, progress=quiet)
    with pytest.raises(FastganError):
        fit(tiny.TinyVariant(), tiny.TinyDataset(), resume=tmp_path / name, progress=quiet)
    with pytest.raises(FastganError):
        write_page(tmp_path / name)
