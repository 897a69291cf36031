"""Every command that a page names exists, with its flags."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgan.cli.main import VERBS, Parser
from fastgan.config import known_keys
from tests.pages import (
    FENCE,
    INLINE,
    PAGES,
    ROOT,
    name_of,
    prose_of,
    text_of,
)


def commands_of(page: Path) -> Iterator[str]:
    """Lines of code blocks without a language, and code within the text, that are commands."""
    for block in FENCE.finditer(text_of(page)):
        if block["kind"] in ("", "sh", "bash", "console"):
            joined = block["body"].replace("\\\n", " ")
            for line in joined.splitlines():
                yield line.removeprefix("$ ").strip()
    for match in INLINE.finditer(prose_of(page)):
        yield " ".join(match[1].split())


COMMANDS = [
    (name_of(page), command)
    for page in PAGES
    for command in commands_of(page)
    if re.match(r"([A-Z_]+=\S+ )*(fastgan|make|python|pip install) ", command)
]


def parser_of(verb: str) -> tuple[argparse.ArgumentParser, bool]:
    module = importlib.import_module(f"fastgan.cli.{verb}")
    parser = Parser(prog=f"fastgan {verb}", allow_abbrev=False)
    module.add_arguments(parser)
    return parser, getattr(module, "TAKES_CONFIG_FLAGS", False)


def config_flags() -> set[str]:
    leaves = {key.rpartition(".")[2] for key in known_keys()} | set(known_keys())
    flags = {f"--{leaf.replace('_', '-')}" for leaf in leaves}
    return flags | {f"--no-{flag[2:]}" for flag in flags}


def check_fastgan(words: list[str], whole: bool) -> None:
    if not words or words[0].startswith("--"):
        assert set(words) <= {"--help", "--version", "--debug"}
        return
    verb = words[0]
    assert verb in VERBS or verb.isupper(), f"no command {verb!r}"
    if verb.isupper():
        return
    parser, takes_rest = parser_of(verb)
    known = {flag for action in parser._actions for flag in action.option_strings}
    known |= {"--help", "--debug"} | (config_flags() if takes_rest else set())
    for word in words[1:]:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{verb}: no flag {word}"
    if whole and "--help" not in words:
        _, rest = parser.parse_known_args([word for word in words[1:] if word != "--debug"])
        assert takes_rest or rest == []


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        target, equals, _ = word.partition("=")
        pattern = rf"^{re.escape(target)} \?=" if equals else rf"^{re.escape(target)}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"make: no {target}"


def check_python(words: list[str]) -> None:
    if words[0] == "-m":
        module = words[1].replace("fastgan.examples", "examples").replace(".", "/")
        own = module.split("/")[0] in ("fastgan", "examples", "tools", "tests", "bench")
        there = (ROOT / f"{module}.py").exists() or (ROOT / module / "__main__.py").exists()
        assert there or not own, f"no module {words[1]}"
    elif words[0].endswith(".py"):
        assert (ROOT / words[0]).exists(), f"no script {words[0]}"
        source = (ROOT / words[0]).read_text(encoding="utf-8")
        assert runs_by_path(source), f"{words[0]} is a module: python -m"
        for word in words[1:]:
            if word.startswith("--"):
                assert f'"{word.partition("=")[0]}"' in source, f"{words[0]}: no flag {word}"


def runs_by_path(source: str) -> bool:
    """Whether a script finds what it imports: Python looks beside it, not in the clone's root."""
    within = re.search(r"^\s*(from|import) (bench|tests|tools|examples)\b", source, re.MULTILINE)
    return within is None or "sys.path.insert" in source


@pytest.mark.parametrize("script", sorted(ROOT.glob("bench/**/*.py")), ids=name_of)
def test_scripts_say_how_they_are_run(script: Path) -> None:
    source = script.read_text(encoding="utf-8")
    here = script.relative_to(ROOT).as_posix()
    assert f"python {here}" not in source or runs_by_path(source), "python -m ..."
    for said in re.findall(r"python -m (bench\.[\w.]+)", source):
        there = ROOT / said.replace(".", "/")
        assert there.with_suffix(".py").exists() or (there / "__main__.py").exists(), said


def check_pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: value[:60])
def test_commands_exist(page: str, command: str) -> None:
    command = re.split(r"\s+[|&>]", command)[0]
    whole = page == "README.md" and command in fenced(ROOT / page)
    words = shlex.split(command, comments=True)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if "..." in words:
        words.remove("...")
        whole = False
    tool, rest = words[0], words[1:]
    if tool == "fastgan":
        check_fastgan(rest, whole)
    elif tool == "make":
        check_make(rest)
    elif tool == "python":
        check_python(rest)
    else:
        check_pip(rest)


def fenced(page: Path) -> set[str]:
    blocks = [block["body"] for block in FENCE.finditer(text_of(page)) if not block["kind"]]
    return {line.strip() for block in blocks for line in block.splitlines()}


def test_readme_has_the_five_commands() -> None:
    lines = fenced(ROOT / "README.md")
    starts = ("pip install", *(f"fastgan {v}" for v in ("inspect", "train", "generate", "audit")))
    assert all(any(line.startswith(start) for line in lines) for start in starts)


def test_a_clone_holds_nothing_that_the_readme_writes() -> None:
    """Else `inspect` would find its default name taken, and `train` read somebody else's file."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no clone of a repository")
    top = {name.partition("/")[0] for name in listed.stdout.split("\0") if name}
    assert not top & {"fastgan-config.yaml", "fastgan-plan.yaml", "runs", "synthetic", "audit"}
