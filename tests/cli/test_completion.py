from __future__ import annotations

import subprocess

import pytest

from fastgan.cli.main import VERBS
from fastgan.config import known_keys


def completed(cli, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    script = cli("completion", "bash").out
    line = " ".join(f"'{word}'" for word in ("fastgan", *words))
    ask = (
        f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _fastgan; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    answer = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return answer.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tra"], ["train", "translate"]),
        (["plan", "--ho"], ["--hours"]),
        (["train", "--critic-s"], ["--critic-steps"]),
        (["demo", "--setting", "q"], ["quick", "quality"]),
        (["completion", ""], ["bash", "zsh"]),
        (["train", "--config", "runs/"], []),
        (["nonsense", "--x"], []),
    ],
)
def test_bash_completes(cli, words, offered):
    assert completed(cli, *words) == offered


def test_every_verb_and_key_is_known_to_both(cli):
    for shell in ("bash", "zsh"):
        answer = cli("completion", shell)
        assert answer.code == 0 and answer.err == ""
        for verb in VERBS:
            assert verb in answer.out
        for key in known_keys():
            assert f"--{key.rpartition('.')[2].replace('_', '-')}" in answer.out


def test_another_shell_is_refused(cli):
    answer = cli("completion", "fish")
    assert answer.code == 2 and "fish" in answer.err
