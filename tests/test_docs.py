"""The pages: their links, commands, paths and names are there, and README is short."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

from fastgan import errors
from fastgan.cli.main import VERBS, Parser
from fastgan.config import known_keys
from tools.docstring_markdown import as_markdown

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [page for page in OUTSIDE if page.exists()] + sorted(DOCS.rglob("*.md"))
README_WORDS = 900

LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)|!\[[^\]]*\]\((?P<picture>[^)\s]+)\)")
FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
# What a page may name as a path: folders of the repository, patterns included.
PLACE = re.compile(
    r"(csrc|fastgan|kernels|tests|bench|docs|examples|studies|tools|\.ci)/[\w./*{},-]*"
)
# Paths that only exist once something has run.
MADE = ("bench/results/<device>",)
# Variables that the project's own code or its compilers read.
READ = re.compile(
    r"(?:environ(?:\.get|\.setdefault)?[\[(]|getenv\()\s*\"([A-Z_]+)\"|VARIABLE = \"(\w+)\""
)
OF_THE_SYSTEM = {"PATH", "PYTHONPATH"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return COMMENT.sub("", page.read_text(encoding="utf-8"))


def prose_of(page: Path) -> str:
    return FENCE.sub("", text_of(page))


def slug(heading: str) -> str:
    """Anchor of a heading, as GitHub and mkdocs make it."""
    words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", words))


def anchors_of(page: Path) -> set[str]:
    return {slug(line.lstrip("#")) for line in prose_of(page).splitlines() if line.startswith("#")}


def links_of(page: Path) -> Iterator[str]:
    for match in LINK.finditer(INLINE.sub("", prose_of(page))):
        yield match["target"] or match["picture"]


def local(page: Path, link: str) -> tuple[Path, str] | None:
    """File and anchor of a relative link."""
    if urlparse(link).scheme:
        return None
    path, _, anchor = link.partition("#")
    return (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        found = local(page, link)
        if found is None:
            continue
        target, anchor = found
        assert target.exists(), f"{link}: no such file"
        inside = page.is_relative_to(DOCS)
        assert not inside or target.is_relative_to(DOCS), f"{link}: leaves what the site shows"
        if anchor:
            assert anchor in anchors_of(target), f"{link}: no such heading"


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    open_pages = [DOCS / "index.md"]
    while open_pages:
        page = open_pages.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = [found[0] for link in links_of(page) if (found := local(page, link))]
        open_pages += [target for target in targets if target.suffix == ".md"]
    assert sorted(name_of(page) for page in set(DOCS.rglob("*.md")) - seen) == []


def test_every_page_is_in_the_menu() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def leaves(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for value in entry.values():
                yield from leaves(value)
        elif isinstance(entry, list):
            for value in entry:
                yield from leaves(value)

    assert sorted(leaves(settings["nav"])) == sorted(
        str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")
    )


def test_readme_is_short() -> None:
    words = [word for word in text_of(ROOT / "README.md").split() if re.search(r"\w", word)]
    assert len(words) <= README_WORDS


def test_readme_shows_one_picture() -> None:
    pictures = [m["picture"] for m in LINK.finditer(text_of(ROOT / "README.md")) if m["picture"]]
    assert len(pictures) == 1


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
        for word in words[1:]:
            if word.startswith("--"):
                assert f'"{word.partition("=")[0]}"' in source, f"{words[0]}: no flag {word}"


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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_and_names_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # names what is gone
    for match in INLINE.finditer(prose_of(page)):
        word = " ".join(match[1].split()).removeprefix("python ").split(" ")[0].rstrip(",:")
        word = word.partition("::")[0]
        if PLACE.fullmatch(word) and word not in MADE and "<" not in word:
            for path in braces(word):
                assert list(ROOT.glob(path.rstrip("/"))), f"`{word}`: not in the repository"
        elif re.fullmatch(r"fastgan(\.\w+)+(\(.*)?", match[1]):
            resolve(match[1].partition("(")[0])


def braces(pattern: str) -> list[str]:
    """`a/{b,c}` is `a/b` and `a/c`."""
    found = re.search(r"\{([^}]*)\}", pattern)
    if found is None:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [path for part in found[1].split(",") for path in braces(head + part + tail)]


def resolve(name: str) -> None:
    """A dotted name is a module, or an attribute of one."""
    if name.startswith("fastgan.examples"):
        assert (ROOT / name.removeprefix("fastgan.").replace(".", "/")).exists(), name
        return
    parts, found = name.split("."), None
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[count:]:
            found = getattr(found, attribute, None)
            assert found is not None, f"{name}: no {attribute!r}"
        return
    raise AssertionError(name)


def column(page: Path, heading: str, place: int = 0) -> list[str]:
    """Cells of a column of the first table below a heading."""
    below = page.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1]
    rows = re.findall(r"(?:^\|.*\|\n)+", below, re.MULTILINE)[0].splitlines()[2:]
    return [re.split(r"(?<!\\)\|", row)[1 + place].strip() for row in rows]


def test_reference_lists_every_command() -> None:
    assert column(DOCS / "reference.md", "Commands") == [f"`{verb}`" for verb in VERBS]


def test_reference_lists_every_error_with_its_code() -> None:
    codes = column(DOCS / "reference.md", "Exit codes")
    names = column(DOCS / "reference.md", "Exit codes", 2)
    listed = {name.strip("`"): int(code) for code, name in zip(codes, names, strict=True) if name}
    known = {name: getattr(errors, name).exit_code for name in errors.__all__}
    del known["FastganError"]
    assert listed == known
    assert [int(code) for code in codes] == sorted({int(code) for code in codes})
    assert {0, 1, 2, 3, 4, 70, 130, 141, 143} <= {int(code) for code in codes}


def test_reference_lists_every_variable_that_is_read() -> None:
    listed = {cell.strip("`") for cell in column(DOCS / "reference.md", "Environment variables")}
    read: set[str] = set()
    for folder in ("fastgan", "kernels", "csrc", "tests", "bench", "studies", "tools", "setup.py"):
        place = ROOT / folder
        files = [place] if place.is_file() else [*place.rglob("*.py"), *place.rglob("*.cpp")]
        for file in files:
            if file == Path(__file__).resolve():
                continue
            source = file.read_text(encoding="utf-8")
            read |= {match[1] or match[2] for match in READ.finditer(source)}
    assert {name for name in read if name.startswith("FASTGAN_")} <= listed
    described = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert [name for name in sorted(read - OF_THE_SYSTEM) if f"`{name}`" not in described] == []
    own = {name for name in listed if name.startswith("FASTGAN_")}
    assert own <= read, "listed, and read by nothing"


def test_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(b["body"] for b in FENCE.finditer(text_of(ROOT / "README.md")) if b["kind"])
    assert "steps=200" in code
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code.replace("steps=200", "steps=2, batch_size=2"), names)
    assert names["volumes"].shape == (8, 1, 32, 32, 32)  # type: ignore[attr-defined]
    found = names["found"]
    assert found.volumes.shape == (8, 1, 32, 32, 32)  # type: ignore[attr-defined]
    assert float(found.volumes.min()) >= 0.0  # type: ignore[attr-defined]
    assert float(found.volumes.max()) <= 1.0  # type: ignore[attr-defined]


DOCSTRING = """The sum of a and b, [B].

    Args:
        a: [B].

    Derivatives: two orders: the backward is an operator
        of its own.
    Deterministic: yes.

    >>> total(1, 2)
    3
    """


def test_own_sections_of_docstrings_are_paragraphs_and_doctests_code() -> None:
    lines = [line for line in as_markdown(inspect.cleandoc(DOCSTRING)).splitlines() if line]
    assert lines == [
        "The sum of a and b, [B].",
        "Args:",
        "    a: [B].",
        "**Derivatives.** two orders: the backward is an operator of its own.",
        "**Deterministic.** yes.",
        "```pycon",
        ">>> total(1, 2)",
        "3",
        "```",
    ]


def test_the_reference_shows_every_public_name() -> None:
    """What a submodule of the same name would hide has an entry of its own."""
    for page in sorted((DOCS / "api").glob("*.md")):
        if page.stem == "index":
            continue
        module = importlib.import_module(f"fastgan.{page.stem}")
        entries = set(re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert f"fastgan.{page.stem}" in entries
        folder = Path(str(module.__file__)).parent
        for name in getattr(module, "__all__", ()):
            hidden = (folder / f"{name}.py").exists() or (folder / name).is_dir()
            if hidden and page.stem not in ("errors", "config"):
                shown = any(entry.rpartition(".")[2] == name for entry in entries)
                assert shown or inspect.ismodule(getattr(module, name)), f"{page.name}: {name}"
        for entry in entries:
            resolve(entry)
