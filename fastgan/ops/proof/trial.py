"""The child that tries a GPU kernel before `auto` takes it; its task comes on stdin.

It compares an operator's kernels with float64, then times them beside PyTorch's own path, and
writes what it found to a file. Whatever goes wrong here, a crash or an endless kernel, is lost with
this process alone.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import torch

from fastgan.errors import ResourceLimit
from fastgan.ops.proof.certify import certify
from fastgan.ops.proof.timing import times

__all__ = ["main", "tried"]

# Random shapes beside those of production: each dtype, layout and rule of the grid is among them.
SHAPES = 8


def main() -> None:
    """Answer one task."""
    task = json.load(sys.stdin)
    answer = Path(task["answer"])
    partial = answer.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(tried(task["op"], task["name"], torch.device(task["device"]))))
    os.replace(partial, answer)


def tried(op: str, name: str, device: torch.device) -> dict[str, Any]:
    """What a trial found.

    Args:
        op: name of an operator, such as "norm_act".
        name: of its implementations, such as "native".
        device: where.

    Returns:
        problems: list of str, empty where the kernels are right; ratio: geometric mean over the
        passes of PyTorch's time to theirs, 0 where they are wrong; or untried: why nothing can be
        said, such as memory that others hold.
    """
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        found = certify(op, name, device, shapes=SHAPES, large=device.type == "cuda")
        if found.problems:
            return {"problems": found.problems[:20], "ratio": 0.0}
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        measured = times(device, ops=[op], names=[name], dtype=dtype)
        ratios = [row.ratio for row in measured if row.name == name]
    except (torch.OutOfMemoryError, ResourceLimit) as error:
        return {"untried": f"not enough memory on {device}: {str(error).splitlines()[0]}"}
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else 0.0
    return {"problems": [], "ratio": mean}
