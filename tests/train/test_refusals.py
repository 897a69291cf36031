"""A refusal leaves every byte of the run folder as it was, and a dry run finds it beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastgan.errors import BadFile, ConfigError, FastganError, StateError
from fastgan.train import RunFolder, checkpoint, fit
from fastgan.train.fit import rehearse


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.train(tmp_path_factory.mktemp("runs"), steps=4)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / finished.name))


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def damage(run: Path) -> None:
    for folder in run.glob("ckpt-*"):
        file = folder / "critic.safetensors"
        file.write_bytes(file.read_bytes()[:-1])


Case = tuple[dict[str, Any], dict[str, Any], tuple[str, ...], Callable[[Path], None] | None]
CASES: dict[str, tuple[Case, type[FastganError], str]] = {
    "fewer steps": (({"steps": 3}, {}, ("train.steps",), None), StateError, "4 steps behind it"),
    "another key": (({"batch_size": 3}, {}, (), None), StateError, r"train.batch_size \(4 -> 3\)"),
    "another architecture": (
        ({"steps": 6, "lr_critic": 1.0}, {"width": 9}, ("train.lr_critic",), None),
        StateError,
        "not the state of this architecture",
    ),
    "damaged": (({"steps": 6}, {}, (), damage), FastganError, "critic.safetensors"),
    "no such device": (({"steps": 6, "device": "cuda:9"}, {}, (), None), ConfigError, "cuda:9"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form", ["fit", "rehearse"])
def test_a_refused_resume_changes_nothing(
    name: str, form: str, tiny: Any, quiet: Any, run: Path
) -> None:
    (settings, network, allowed, spoil), kind, message = CASES[name]
    if spoil is not None:
        spoil(run)
    before = content(run)
    act: Any = rehearse if form == "rehearse" else fit
    given = {} if form == "rehearse" else {"progress": quiet}
    with pytest.raises(kind, match=message):
        act(
            tiny.TinyVariant(**network),
            tiny.TinyDataset(),
            tiny.tiny_config(**settings),
            resume=run,
            allow_change=allowed,
            **given,
        )
    assert content(run) == before


def test_after_a_refusal_the_run_still_resumes(tiny: Any, quiet: Any, run: Path) -> None:
    with pytest.raises(StateError, match="4 steps behind it"):
        fit(tiny.TinyVariant(), tiny.TinyDataset(), tiny.tiny_config(steps=3), resume=run,
            allow_change=("train.steps",), progress=quiet)  # fmt: skip
    fit(tiny.TinyVariant(), tiny.TinyDataset(), resume=run, progress=quiet)
    assert RunFolder(run).config().train.steps == 4 and checkpoint.newest(run).step == 4


def test_a_rehearsal_writes_nothing_and_settles_the_settings(
    tiny: Any, run: Path, tmp_path: Path
) -> None:
    before = content(run)
    config = tiny.tiny_config(steps=6, precision="float32")
    settled = rehearse(tiny.TinyVariant(), tiny.TinyDataset(), config, resume=run)
    assert content(run) == before and settled.train.lr_critic == 1e-4
    rehearse(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path / "new" / "runs")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(BadFile, match="file: cannot write run folders there"):
        rehearse(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path / "file")
