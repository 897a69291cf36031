"""Proof, from a GPU of each architecture, that the kernels for GPUs compute what they should.

Kernels are tested without a GPU, in emulation and in Triton's interpreter, which is not the machine
code that runs. So `auto` takes one only where a correctness result from a real GPU of that
architecture is installed beside it, made from the very sources that are installed, or where its
trial on this very machine, at first use, has proven it right and faster (`first_use`).
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fastgan.ops.implementations import extension, first_use

try:
    import fastgan.kernels
except ModuleNotFoundError as error:
    raise ImportError(
        f"fastgan in {Path(__file__).parents[2]} are sources that were not installed there; run "
        "Python in another folder, or install them there: pip install -e ."
    ) from error

__all__ = ["FOLDER", "architecture", "digest", "obstacle", "path"]

FOLDER = Path(__file__).parent / "certified"
_COMMAND = "run `fastgan bench --certify`"


def architecture(device: torch.device) -> str:
    """Name of a GPU's architecture, such as "sm_90"."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def path(arch: str) -> Path:
    """Where the certificate of an architecture is."""
    return FOLDER / f"{arch}.json"


def obstacle(op: str, name: str, device: torch.device, *, tries: bool = True) -> str | None:
    """Why `auto` must not take implementation `name` of an operator on a GPU: None where it may.

    Args:
        op: name of an operator, such as "norm_act".
        name: of its implementations, such as "triton".
        device: a GPU.
        tries: where nothing is known, find out by a trial, which takes seconds once a machine.
    """
    arch = architecture(device)
    results = _results(path(arch))
    if isinstance(results, str):
        return f"{results}; delete it and {_COMMAND}"
    found = results.get(f"{op} {name}")
    if found is not None and found["sources"] == digest(name):
        return f"failed on {arch}: {found['problems'][0]}" if found["problems"] else None
    if first_use.mode() != "off":
        return first_use.obstacle(op, name, device, digest(name), tries=tries)
    if found is None:
        return f"not certified on {arch}: {_COMMAND}"
    if found["problems"]:
        return f"failed on {arch}: {found['problems'][0]}"
    return f"certified on {arch} from other sources than are installed: {_COMMAND}"


@cache
def digest(name: str) -> str | None:
    """SHA-256 of the sources of an implementation's GPU kernels, "native" or "triton".

    None where it is not known, as for an extension without CUDA.
    """
    if name == "native":
        built = extension.reason() is None
        return extension.build_info().get("cuda_sources") if built else None
    total = hashlib.sha256()
    folder = Path(fastgan.kernels.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


@cache
def _results(file: Path) -> dict[str, Any] | str:
    """Results by "operator implementation", empty without a file; or what is wrong with it."""
    if not file.is_file():
        return {}
    try:
        results = json.loads(file.read_text())["results"]
        return {
            key: {"problems": list(found["problems"]), "sources": str(found["sources"])}
            for key, found in results.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{file} is no certificate ({type(error).__name__}: {error})"
