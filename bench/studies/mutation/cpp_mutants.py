"""Mutants of the C++ kernels: all in one build, one of them switched on by the environment.

Each site of a copy of the sources becomes a choice by `FASTGAN_MUTANT`:

    a + b   a + sign(k) * b           the term has the other sign
    a * b   a * (on(k) ? 1 : b)       the factor is left out
    a > 0   a > (on(k) ? 1 : 0)       the threshold is elsewhere

The objects of all other sources are those of the in-place build.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FILES = (
    "core/norm_act.h",
    "cpu/norm_act/sums.h",
    "cpu/norm_act/bwd.cpp",
    "cpu/norm_act/bwd_bwd.cpp",
    "cpu/norm_act/fwd.cpp",
    "cpu/norm_act/kernels.cpp",
    "cpu/bias_act/bias_act.cpp",
    "cpu/bias_act/kernels.cpp",
    "cpu/conv3d/single/passes.cpp",
    "cpu/conv3d/single/kernels.cpp",
    "cpu/conv3d/packed/wgrad.cpp",
    "cpu/conv3d/packed/wgrad_kernels.cpp",
    "cpu/conv3d/packed/fprop.cpp",
    "cpu/conv3d/packed/dgrad.cpp",
    "cpu/conv3d/packed/fprop_dgrad_kernels.cpp",
)
HEADER = """#pragma once
extern int fastgan_mutant;
static inline int mutant_sign(int k) { return fastgan_mutant == k ? -1 : 1; }
static inline bool mutant_on(int k) { return fastgan_mutant == k; }
"""
DEFINITION = """#include <cstdlib>
static int chosen() {
  const char* text = std::getenv("FASTGAN_MUTANT");
  return text ? std::atoi(text) : -1;
}
int fastgan_mutant = chosen();
"""
# Loops that do not end, sizes of memory and types say nothing about formulas.
SKIPPED = re.compile(
    r"^\s*(//|#|for \(|while |template|constexpr|static_assert|typedef|using|while)"
    r"|constexpr|vector<|unique_ptr|chunk_rows =|lanes \*=|threads|new float|prefetch"
    r"|template operator|_\(part\."
)
SITE = re.compile(
    r"(?P<sum> [+-] (?=[\w(]))"
    r"|(?P<product> \* (?P<factor>[A-Za-z_][\w.]*(?:->\w+)*(?:\[[^\[\]]*\])*))(?![\w(<:.\[])"
    r"|(?P<above> > (?:0|A\(0\)))(?= \?)"
)


def mutate(text: str, first: int) -> tuple[str, list[str]]:
    """The text with every site a choice, numbered from `first`, and their descriptions."""
    described: list[str] = []
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        code, comment, rest = line.partition("//")
        if SKIPPED.search(line):
            lines.append(line)
            continue
        parts, end = [], 0
        for match in SITE.finditer(code):
            parts += [code[end : match.start()], _choice(match, first + len(described))]
            end = match.end()
            described.append(f"{number}: {line.strip()} [{match.group(0).strip()}]")
        lines.append("".join([*parts, code[end:], comment, rest]))
    return "\n".join(lines) + "\n", described


def _choice(match: re.Match[str], k: int) -> str:
    if match["sum"]:
        return f"{match['sum']}mutant_sign({k}) * "
    if match["product"]:
        return f" * (mutant_on({k}) ? 1 : {match['factor']})"
    return f" > (mutant_on({k}) ? 1 : 0)"


def sites() -> list[tuple[str, str]]:
    """(file, description) of every mutant; its place is its number."""
    found: list[tuple[str, str]] = []
    for name in FILES:
        _, described = mutate((ROOT / "csrc" / name).read_text(), len(found))
        found += [(name, text) for text in described]
    return found


def build(folder: Path) -> Path:
    """Compile the mutants; returns the extension.

    Raises:
        FileNotFoundError: there is no in-place build of these sources.
    """
    native = next((ROOT / "build" / "native").glob("cpython-*"))
    shutil.copytree(ROOT / "csrc", folder / "csrc", dirs_exist_ok=True, copy_function=_update)
    count = 0
    for name in FILES:
        text, described = mutate((ROOT / "csrc" / name).read_text(), count)
        count += len(described)
        _write(folder / "csrc" / name, '#include "mutant.h"\n' + text)
    _write(folder / "csrc" / "mutant.h", HEADER)
    _write(folder / "csrc" / "cpu" / "mutant.cpp", DEFINITION)
    ninja = _ninja((native / "build.ninja").read_text(), native, folder)
    (folder / "build.ninja").write_text(ninja)
    subprocess.run(["ninja", "-C", str(folder)], check=True)
    return next(folder.glob("_C*.so"))


def _update(source: str, target: str) -> None:
    if Path(source).relative_to(ROOT / "csrc").as_posix() not in FILES:
        _write(Path(target), Path(source).read_text())


def _write(path: Path, text: str) -> None:
    """Leave what is up to date alone, so that it is not compiled again."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def _ninja(text: str, native: Path, folder: Path) -> str:
    """The build file of the extension, with the mutated sources at their best level alone."""
    if str(ROOT / "csrc") not in text:  # what would be compiled is no mutant
        raise FileNotFoundError(f"{native} was built from other sources: build in place first")
    text = text.replace(str(ROOT / "csrc"), str(folder / "csrc"))
    text = text.replace("-I . ", f"-I {native} ")
    kept: list[str] = []
    objects: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", text):
        target = re.match(r"build (\S+\.o): (?:cxx|nvcc) (\S+)", block)
        if target is None:
            kept.append(block)
            continue
        level = target[1].rpartition(".o")[0].rpartition(".")[2]
        best = level == "avx2" or not target[2].endswith("kernels.cpp")
        if target[2].removeprefix(f"{folder}/csrc/") in FILES and best:
            kept.append(block)
        else:
            objects[target[1]] = str(native / target[1])
    text = "\n".join(kept)
    for name, path in objects.items():
        text = re.sub(rf"(?<= ){re.escape(name)}(?=[ \n])", path, text)
    text = re.sub(r"^(build \S+\.so: link)", r"\1 cpu/mutant.o", text, flags=re.MULTILINE)
    rule = f"build cpu/mutant.o: cxx {folder}/csrc/cpu/mutant.cpp\n"
    return text.replace("default ", rule + "default ")
