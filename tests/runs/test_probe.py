"""Measurements behind a plan: real steps, in a process of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastgan.config import Config, parse
from fastgan.errors import BadFile, ConfigError, ResourceLimit
from fastgan.runs.probe import measure
from fastgan.runs.probe_child import probe
from tests.runs.pretended import GB
from tests.runs.volumes import tiny, write_volumes


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    """The same choices on every machine: without matrix units, with memory."""
    monkeypatch.setattr("fastgan.train.precision._cpu_flags", set)
    monkeypatch.setattr("fastgan.runs.plan.free_memory", lambda device: 200 * GB)


def probed(config: Config, folder: Path) -> dict:
    """What the child would answer, without the child."""
    return probe(config, folder, patience=60.0)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_measurement_of_real_steps(tmp_path, conditional):
    source = write_volumes(tmp_path / "volumes", labels=conditional)
    found = probed(tiny(source, conditional=conditional), tmp_path / "work")
    assert found["device"] == "cpu" and found["steps"] >= 3 and found["step_seconds"] > 0.0
    assert found["critic_seconds"] > 0.0 and found["save_seconds"] > 0.0
    assert found["host_bytes"] > 50e6 and found["checkpoint_bytes"] > 1000
    assert found["picture_bytes"] > 50 and found["written_bytes"] > 100
    assert found["volumes"] + found["heldout"] == 8 and found["prepared"]
    assert found["stored_bytes"] == 2 * 8 * 8 * 8


def test_a_lazy_penalty_is_timed_over_whole_periods(tmp_path):
    config = tiny(write_volumes(tmp_path / "v", labels=False), conditional=False)
    config.gan.penalty_interval, config.gan.critic_steps = 6, 4
    assert probed(config, tmp_path / "work")["steps"] % 3 == 0


def test_an_archive_is_measured_as_it_is(tmp_path):
    volumes = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", volumes=volumes)
    config = tiny(tmp_path / "set.npz", conditional=False)
    config.data.holdout = 0.0
    found = probed(config, tmp_path / "work")
    assert found["volumes"] == 6 and found["heldout"] == 0 and not found["prepared"]


def test_a_measurement_of_a_cyclegan(tmp_path):
    a, b = (write_volumes(tmp_path / name, labels=False) for name in ("a", "b"))
    config = tiny(a, conditional=False).model_dump(mode="json")
    config["data"]["source_b"] = str(b)
    config["model"] = {"translator_channels": [4], "patch_critic_channels": [4]}
    config["gan"] = {"variant": "cyclegan", "pool_size": 2}
    found = probed(parse(config), tmp_path / "work")
    assert found["generate_seconds"] == 0.0 and found["volumes"] + found["heldout"] == 16


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"data": {"source": "absent-folder"}}, ConfigError, "absent-folder"),
        ({"gan": {"objective": "wgna"}}, ConfigError, "wgna"),
        ({"train": {"device": "cuda:63"}}, ConfigError, "CUDA"),
        ({"gan": {"variant": "cyclegan", "critic_steps": 5}}, ConfigError, "source_b"),
        ({"data": {"source_b": "b"}}, ConfigError, "source_b"),
        ({"data": {"conditional": True}}, ConfigError, "label"),
        ({"data": {"shape": [7, 8, 8]}, "model": {"fold": [2, 2, 2]}}, ConfigError, "fold"),
    ],
)
def test_a_trial_refuses_what_training_would(tmp_path, changes, kind, said):
    content = tiny(write_volumes(tmp_path / "v", labels=False), conditional=False)
    content = content.model_dump(mode="json")
    for section, keys in changes.items():
        content[section] |= keys
    with pytest.raises(kind, match=said):
        probed(parse(content), tmp_path / "work")


def test_a_damaged_largest_file_is_named(tmp_path):
    source = write_volumes(tmp_path / "v", labels=False)
    largest = max(source.glob("*.nii.gz"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes() + b"x" * 1000)
    with pytest.raises(BadFile, match=largest.name):
        probed(tiny(source, conditional=False), tmp_path / "work")


def test_a_child_measures_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    source = write_volumes(tmp_path / "v", labels=False)
    found = measure(tiny(source, conditional=False))
    assert found.steps >= 3 and found.load >= 0.0
    assert not any((tmp_path / "temporary").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["temporary", "v"]


def test_a_child_takes_the_package_that_is_installed(tmp_path, monkeypatch):
    """Not one in the folder one stands in, as a clone has it, without what was built of it."""
    (tmp_path / "fastgan").mkdir()
    (tmp_path / "fastgan" / "__init__.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert measure(tiny(write_volumes(tmp_path / "v", labels=False), conditional=False)).steps >= 3


def test_a_childs_refusal_keeps_its_type(tmp_path):
    with pytest.raises(ConfigError, match="absent-folder"):
        measure(tiny(tmp_path / "absent-folder", conditional=False))


def test_a_child_that_runs_out_of_memory_ends_alone(tmp_path):
    config = tiny(write_volumes(tmp_path / "v", labels=False), conditional=False)
    config.train.batch_size = 60_000
    with pytest.raises(ResourceLimit, match="out of device memory"):
        measure(config, memory=400_000_000)
