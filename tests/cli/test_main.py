from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastgan
from fastgan import errors
from fastgan.cli import main as main_module
from fastgan.cli.main import VERBS
from fastgan.cli.process import keep_freed_memory

ROOT = Path(__file__).parents[2]


def _program(*arguments, code):
    """Run `python -c code` with the command line's arguments."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["trian"], []])
def test_help_and_mistakes_import_nothing_heavy(arguments):
    code = (
        "import sys; from fastgan.cli.main import main; main(sys.argv[1:])\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'tyro', 'rich', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = _program(*arguments, code=code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["inspect", "generate", "translate", "doctor"])
def test_help_of_verbs_imports_no_torch(verb):
    code = (
        "import sys; from fastgan.cli.main import main; code = main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = _program(verb, "--help", code=code)
    assert done.returncode == 0 and f"fastgan {verb}" in done.stdout, done.stderr


def test_help_lists_every_verb(cli):
    answer = cli("--help")
    assert answer.code == 0
    for verb, text in VERBS.items():
        assert f"  {verb}" in answer.out and text in answer.out
    assert cli().code == 2
    assert cli("--version").out == f"fastgan {fastgan.__version__}\n"


def test_unknown_verb_names_the_nearest(cli):
    answer = cli("genrate")
    assert answer.code == 2
    assert answer.err == "fastgan: unknown command 'genrate'; did you mean 'generate'?\n"
    assert "choose from doctor" in cli("zzz").err


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.BadFile("x"), 10),
        (errors.CorruptFile("x"), 11),
        (errors.UnsafeFile("x"), 12),
        (errors.ResourceLimit("x"), 13),
        (errors.NumericsError("x"), 14),
        (errors.StateError("x"), 15),
        (errors.AuditError("x"), 16),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (SystemExit(None), 0),
        (ValueError("two\nlines"), 70),
    ],
)
def test_exit_codes(cli, monkeypatch, raised, code):
    def fail(arguments):
        raise raised

    monkeypatch.setattr(main_module, "_run", fail)
    answer = cli("train")
    assert answer.code == code
    assert "Traceback" not in answer.err
    if code == 70:
        assert "ValueError: two lines\n" in answer.err and "--debug" in answer.err
    if 2 <= code <= 16:
        assert answer.err == "fastgan: x\n"


def test_debug_shows_the_traceback(cli, monkeypatch):
    def fail(arguments):
        assert "--debug" not in arguments
        raise errors.BadFile("x")

    monkeypatch.setattr(main_module, "_run", fail)
    with pytest.raises(errors.BadFile):
        cli("train", "--debug")


def test_wrong_arguments_of_a_verb(cli):
    assert cli("generate").code == 2
    assert "required" in cli("generate").err
    answer = cli("generate", "--run", "r", "--out", "o", "--count", 1, "--sead", 3)
    assert answer.code == 2 and "did you mean '--seed'?" in answer.err
    assert "invalid int" in cli("generate", "--run", "r", "--out", "o", "--count", "x").err


def test_a_reader_that_leaves():
    code = (
        "import sys; from fastgan.cli import main\n"
        "def fail(arguments): raise BrokenPipeError\n"
        "main._run = fail; sys.exit(main.main(['x']))"
    )
    done = _program(code=code)
    assert (done.returncode, done.stderr) == (141, "")


def test_module_is_the_command():
    done = _program(code="import runpy; runpy.run_module('fastgan', run_name='__main__')")
    assert done.returncode == 2 and "commands:" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is the GNU C library's")
def test_memory_is_kept():
    assert keep_freed_memory()
