from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from fastgan import config as configuration
from fastgan.config import parse
from fastgan.errors import BadFile, CorruptFile, StateError
from fastgan.train import fit, lock
from fastgan.train.made_with import FREE_KEYS, changed_keys
from fastgan.train.run_folder import RunFolder

DATA = {"fingerprint": "f" * 64, "spacing": [1.0, 1.0, 2.0]}


def _create(out, **config):
    return RunFolder.create(out, parse({"name": "a"} | config), DATA, ["fastgan", "train", "x y"])


def test_layout_and_numbers(tmp_path):
    first = _create(tmp_path / "runs")
    second = _create(tmp_path / "runs", name="b", seed=3)
    assert [first.path.name, second.path.name] == ["00000-a-seed0", "00001-b-seed3"]
    assert second.config() == parse({"name": "b", "seed": 3})
    assert first.data() == DATA
    assert (first.path / "command.txt").read_text() == "fastgan train 'x y'\n"
    (tmp_path / "runs" / "00041-by-hand").mkdir()
    assert _create(tmp_path / "runs").path.name.startswith("00042-")


def test_environment_names_no_machine_and_no_user(tmp_path):
    content = (_create(tmp_path).path / "env.json").read_text()
    assert {"fastgan", "torch", "numpy", "python", "threads"} <= json.loads(content).keys()
    assert os.uname().nodename not in content
    assert os.path.expanduser("~") not in content


def test_numbers_are_taken_once(tmp_path):
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.append(_create(tmp_path).path.name)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 8


def test_rejects_other_folders(tmp_path):
    with pytest.raises(BadFile, match="not a run folder"):
        RunFolder(tmp_path)
    run = _create(tmp_path)
    (run.path / "data.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"data.json"):
        run.data()
    (run.path / "data.json").unlink()
    with pytest.raises(BadFile, match=r"data.json"):
        run.data()
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="cannot write"):
        _create(tmp_path / "file")


def test_metrics_are_appended_and_cut(tmp_path):
    run = _create(tmp_path)
    for step in range(1, 6):
        run.append_metrics({"step": step, "loss": float("nan") if step == 2 else 0.5})
    path = run.path / "metrics.jsonl"
    with open(path, "a") as file:
        file.write('{"step": 3, "lo')
    run.cut_metrics(9)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5]
    run.cut_metrics(3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[1]["loss"] is None


def test_changed_keys():
    changes = changed_keys(parse({}), parse({"seed": 1, "train": {"steps": 5}}))
    assert changes == {"seed": (0, 1), "train.steps": (10_000, 5)}
    assert set(configuration.known_keys()) >= FREE_KEYS


@pytest.mark.parametrize("key", sorted(FREE_KEYS))
def test_free_keys_may_change(tmp_path, key):
    run = _create(tmp_path)
    values = {
        "name": "z",
        "data.cache_dir": "/c",
        "train.device": "cpu",
        "train.non_finite": "skip",
        "train.tensorboard": True,
        "train.cuda_graph": "auto",
        "train.recompute": True,
        "train.split": [2, 1, 1],
    }
    section, _, leaf = key.rpartition(".")
    value = values.get(key, 7)
    config = parse({section: {leaf: value}} if section else {"name": value})
    run.accept(config, DATA, (), ["again"])
    assert changed_keys(run.config(), config) == {}


def test_other_keys_need_leave(tmp_path):
    run = _create(tmp_path)
    before = (run.path / "config.yaml").read_bytes()
    config = parse({"name": "a", "seed": 1, "train": {"batch_size": 3, "steps": 5}})
    with pytest.raises(
        StateError, match=r"seed \(0 -> 1\), train.batch_size \(16 -> 3\)"
    ) as caught:
        run.accept(config, DATA, (), [])
    assert "train.steps" not in str(caught.value) and "--allow-change" in str(caught.value)
    with pytest.raises(StateError, match="seed") as caught:
        run.accept(config, DATA, ("train.batch_size",), [])
    assert "batch_size" not in str(caught.value)
    with pytest.raises(StateError, match=r"data.fingerprint"):
        run.accept(run.config(), DATA | {"fingerprint": "0"}, (), [])
    assert (run.path / "config.yaml").read_bytes() == before
    allowed = ("seed", "train.batch_size", "data.fingerprint")
    run.accept(config, DATA | {"fingerprint": "0"}, allowed, ["fastgan", "again"])
    assert run.config() == config and run.data()["fingerprint"] == "0"
    assert (run.path / "command.txt").read_text().splitlines()[1] == "fastgan again"


def test_one_writer(tmp_path, tiny, quiet):
    config = tiny.tiny_config(steps=1)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    with run.locked():
        with pytest.raises(StateError, match=f"in use by process {os.getpid()}"), run.locked():
            pass
        with pytest.raises(StateError, match="in use"):
            fit(tiny.TinyVariant(), tiny.TinyDataset(), resume=run.path, progress=quiet)
    with run.locked():
        pass


def test_lock_of_another_process(tmp_path, fork):
    def hold_for_ever():
        with lock.hold(tmp_path):
            (tmp_path / "held").touch()
            time.sleep(60)

    holder = fork(hold_for_ever)
    while not (tmp_path / "held").exists():
        time.sleep(0.002)
    with pytest.raises(StateError, match=f"in use by process {holder}"), lock.hold(tmp_path):
        pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert str(holder) in (tmp_path / "lock").read_text()
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / "lock").read_text() == ""


def test_where_flock_does_not_reach(tmp_path):
    # A file system that grants the lock twice: only the mark in the file speaks.
    living = lock.identify(os.getppid())
    (tmp_path / "lock").write_text(json.dumps(living))
    with pytest.raises(StateError, match=f"process {os.getppid()}"), lock.hold(tmp_path):
        pass
    for stale in (
        living | {"started": living["started"] + 1},
        living | {"boot": "another"},
        living | {"pid": 2**22 + 1},
        [],
        {"pid": "x"},
    ):
        (tmp_path / "lock").write_text(json.dumps(stale))
        with lock.hold(tmp_path):
            pass
    (tmp_path / "lock").write_text("\0\0")
    with lock.hold(tmp_path):
        pass


def test_a_folder_of_runs_names_them(tmp_path):
    for number in range(7):
        folder = tmp_path / f"{number:05d}-ct-seed0"
        folder.mkdir()
        (folder / "config.yaml").write_text("")
    with pytest.raises(
        BadFile, match=r"holds runs, name one: the last 5 of 7 are .*00006-ct"
    ) as caught:
        RunFolder(tmp_path)
    assert "00001-ct" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFile, match=r"\(it has no config.yaml\)$"):
        RunFolder(tmp_path / "empty")
