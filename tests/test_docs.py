"""The pages: their links, paths and names are there, and README is short."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

from fastgan import errors
from fastgan.cli.main import VERBS
from tests.pages import (
    DOCS,
    FENCE,
    INLINE,
    LINK,
    PAGES,
    ROOT,
    name_of,
    prose_of,
    text_of,
)
from tools.docstring_markdown import as_markdown

README_WORDS = 900

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
    listed = {
        name.strip("`"): int(code)
        for code, cell in zip(codes, names, strict=True)
        for name in cell.split(", ")
        if name
    }
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
