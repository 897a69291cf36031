from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fastgan.cli.main import main
from tests.cli.translator_run import CT, MR, Map, affine_of, body, make_run, record, save


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def cli():
    """Runs a command line in this process."""

    def call(*arguments: object) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
        return Answer(code, out.getvalue(), err.getvalue())

    return call


SMALL = [
    *("--batch-size", "2", "--critic-steps", "1", "--latent-dim", "4"),
    *("--generator-channels", "4", "4", "4", "4", "--critic-channels", "4", "4", "4", "4"),
    *("--device", "cpu", "--deterministic", "--conditional", "--log-every", "1"),
]


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Flags of a GAN that trains a step in a fraction of a second."""
    return SMALL


@pytest.fixture(scope="session")
def trained(cli, tmp_path_factory) -> Path:
    """A run folder of two steps on the bundled data; not to be changed."""
    out = tmp_path_factory.mktemp("runs")
    answer = cli("train", *SMALL, "--steps", 2, "--name", "small", "--out", out)
    assert answer.code == 0, answer.err
    return Path(answer.out.strip())


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("runs")
    pairs = {"ct-mr": record(CT) | {"b": record(MR)}, "ct-ct": record(CT) | {"b": record(CT)}}
    pairs["one"] = record(CT)
    pairs["two channels"] = record(CT) | {"b": record(MR), "channels": 2}
    return {name: make_run(out, data) for name, data in pairs.items()}


@pytest.fixture
def translator(monkeypatch):
    """Sets what a run's checkpoint is said to hold; records what was asked for."""
    asked = []

    def use(function) -> list:
        module = Map(function)

        def load(folder, found, direction):
            asked.append((folder.path.name, found.step, direction))
            return module.eval()

        monkeypatch.setattr("fastgan.runs.translate.load_translator", load)
        return asked

    use(lambda x: x)
    return use


@pytest.fixture
def scans(tmp_path) -> Path:
    """A manifest of two CT volumes of different sizes in folders of equal file names."""
    folder = tmp_path / "scans"
    for name, shape in (("one", (20, 17, 13)), ("two", (16, 16, 12))):
        (folder / name).mkdir(parents=True)
        save(folder / name / "ct.nii.gz", body(shape).astype(np.int16), affine_of("LPS"))
    (folder / "manifest.csv").write_text(
        "path,label,subject,site,scanner,split,modality\n"
        "one/ct.nii.gz,ill,P1,north,X,train,ct\ntwo/ct.nii.gz,well,P2,south,,holdout,\n"
    )
    return folder
