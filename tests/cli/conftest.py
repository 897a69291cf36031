from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastgan.cli.main import main


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
