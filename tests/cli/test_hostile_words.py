"""Words and numbers of a command line, of names and of files, that do harm or make no sense."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest

from fastgan.cli.main import UNEXPECTED
from fastgan.data import save_volume
from fastgan.terminal import Escaping, escaped
from fastgan.train.progress import Progress

CODES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def test_no_code_reaches_the_terminal(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        save_volume(folder / f"sub-{i}{CODES}.nii", np.random.rand(8, 8, 8) * 100, np.eye(4))
    (folder / f"b{CODES}.nii").write_bytes(b"nothing")
    for arguments in (
        ("inspect", folder, "--no-plan"),
        ("inspect", f"{tmp_path}/{CODES}"),
        ("train", "--source", f"{tmp_path}/{CODES}", "--out", tmp_path),
        ("generate", "--run", CODES, "--out", CODES, "--count", "1"),
        (CODES,),
    ):
        answer = cli(*arguments)
        assert answer.code not in (0, UNEXPECTED), answer
        shown = answer.out + answer.err
        assert "\\x1b" in shown or "\\u202e" in shown
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & {*shown}


def test_progress_escapes_what_it_is_told():
    stream = io.StringIO()
    with Progress(3, stream=stream) as progress:
        progress.say(f"skipped: {CODES}")
        progress.report(1, {f"critic{CODES}": 1.0}, 1.0, 1)
    assert "\x1b" not in stream.getvalue() and "\\x1b[2J" in stream.getvalue()


def test_escaping_leaves_words_alone():
    stream = io.StringIO()
    print("Größe 3 µm\tα → β\n中", file=Escaping(stream))
    assert stream.getvalue() == "Größe 3 µm\tα → β\n中\n"
    assert escaped("\ud800") == "\\ud800"


LONG, NUL, MANY = "a" * 300, "a\0b", "9" * 30


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", LONG),
        ("inspect", NUL),
        ("train", "--source", LONG),
        ("train", "--source", NUL),
        ("train", "--config", LONG),
        ("train", "--config", NUL),
        ("train", "--resume", LONG),
        ("train", "--resume", NUL),
        ("train", "--out", LONG, "--steps", "1"),
        ("train", "--out", NUL, "--steps", "1"),
        ("train", "--name", LONG),
        ("train", "--steps", MANY),
        ("train", "--batch-size", MANY),
        ("train", "--latent-dim", MANY),
        ("train", "--seed", MANY),
        ("train", "--critic-channels", MANY),
        ("train", "--cache-dir", LONG, "--dry-run", "--device", "cuda:" + MANY),
        ("generate", "--run", LONG, "--out", "o", "--count", "1"),
        ("generate", "--run", NUL, "--out", "o", "--count", "1"),
        ("audit", "--run", LONG, "--out", "o"),
        ("audit", "--run", NUL, "--out", "o"),
        ("translate", "--run", LONG, "--in", "i", "--out", "o", "--direction", "A_to_B"),
        ("plan", "--config", LONG),
        ("plan", "--hours", "1e400"),
    ],
)
def test_names_and_numbers_that_cannot_be(cli, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    answer = cli(*arguments)
    assert 0 < answer.code < UNEXPECTED, answer
    assert len(answer.err) < 2000


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--count", MANY), ("--seed", MANY), ("--checkpoint", MANY), ("--out", LONG), ("--out", NUL)],
)
def test_numbers_that_generate_cannot_take(cli, trained, tmp_path, flag, value):
    arguments = {"--run": trained, "--out": tmp_path / "out", "--count": "1", flag: value}
    answer = cli("generate", *(word for pair in arguments.items() for word in pair))
    assert 0 < answer.code < UNEXPECTED, answer
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["generate", "audit"])
@pytest.mark.parametrize("file", ["config.yaml", "data.json"])
def test_a_changed_run_is_not_used(cli, trained, tmp_path, verb, file):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    path = run / file
    if file == "data.json":
        content = json.loads(path.read_bytes())
        content["normalisation"]["high"] += 1.0
        path.write_text(json.dumps(content))
    else:
        path.write_text(path.read_text().replace("smooth_output: false", "smooth_output: true"))
    more = {"generate": ("--count", "1"), "audit": ()}[verb]
    answer = cli(verb, "--run", run, "--out", tmp_path / "out", *more)
    assert answer.code == 15 and file in answer.err, answer
    assert not (tmp_path / "out").exists()
