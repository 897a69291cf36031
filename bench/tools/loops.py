"""Loops of a kernel's machine code, and how wide they reach into global memory."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["WIDE", "Accesses", "accesses", "hot_accesses", "innermost", "instructions", "loops"]

WIDE = 128  # bits of the widest access there is
_BITS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}

Accesses = Counter[tuple[str, int]]


def instructions(code: str) -> list[tuple[int, str]]:
    """Address and text of every instruction of a disassembly."""
    return [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", code)]


def loops(code: str) -> list[list[str]]:
    """Instructions between each jump backwards and where it leads, inner loops included."""
    lines = instructions(code)
    found = []
    for at, text in lines:
        jump = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)
        if jump and int(jump.group(1), 16) < at:
            found.append([t for a, t in lines if int(jump.group(1), 16) <= a <= at])
    return found


def accesses(lines: list[str]) -> Accesses:
    """How often instructions read and write global memory: by operation and bits, ("LDG", 128)."""
    found: Accesses = Counter()
    for line in lines:
        for operation, parts in re.findall(r"\b(LDG|STG)\.E([.\w]*)", line):
            widths = [_BITS[part] for part in parts.split(".") if part in _BITS]
            found[operation, widths[0] if widths else 32] += 1
    return found


def innermost(code: str) -> list[list[str]]:
    """The loops that move 16 bytes at a time and hold no shorter one that does."""
    wide = [loop for loop in loops(code) if any(bits == WIDE for _, bits in accesses(loop))]
    texts = ["\n".join(loop) for loop in wide]
    holds = [any(a != b and b in a for b in texts) for a in texts]
    return [loop for loop, outer in zip(wide, holds, strict=True) if not outer]


def hot_accesses(code: str) -> Accesses:
    """Accesses of those loops together; of all code where there are none.

    The widest access of a kernel says nothing of the others: a compiler splits some stores of a
    loop and leaves their neighbours whole.
    """
    found: Accesses = Counter()
    for loop in innermost(code):
        found += accesses(loop)
    return found or accesses([text for _, text in instructions(code)])
