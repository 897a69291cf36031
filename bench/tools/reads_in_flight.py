"""How much a kernel reads at once, from its machine code: what a memory's bandwidth asks for.

Bandwidth is what is under way over the time a read takes; about 36 KB a multiprocessor fill an
H100's share.
"""

from __future__ import annotations

import re

from loops import instructions, loops

__all__ = ["GOAL", "in_flight", "reads_together"]

GOAL = 36 << 10  # bytes a multiprocessor
_REGISTERS, _THREADS = 65536, 2048  # of a multiprocessor


def in_flight(code: str, registers: int, threads: int) -> int:
    """Bytes of 16-byte reads that the blocks of a multiprocessor have under way.

    Args:
        code: disassembly of one kernel.
        registers: of a thread, which say how many blocks run at once.
        threads: of a block.
    """
    held = -(-registers // 8) * 8 * threads
    blocks = min(_REGISTERS // held, _THREADS // threads)
    return 16 * reads_together(code) * threads * blocks


def reads_together(code: str) -> int:
    """Most 16-byte reads that one loop starts before it uses the first; of all code without one."""
    counts = [_together(loop) for loop in loops(code)]
    return max(counts, default=0) or _together([text for _, text in instructions(code)])


def _together(instructions: list[str]) -> int:
    most = 0
    for first, text in enumerate(instructions):
        read = re.search(r"\bLDG\S*\.128\S* R(\d+),", text)
        if not read:
            continue
        number = int(read.group(1))
        used = re.compile("|".join(rf"\bR{number + i}\b" for i in range(4)))
        count = 1
        for following in instructions[first + 1 :]:
            if used.search(following):
                break
            count += bool(re.search(r"\bLDG\S*\.128", following))
        most = max(most, count)
    return most
