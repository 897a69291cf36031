"""The emulation itself: each kind of mistake that it is there to catch, planted and caught."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# What is planted in csrc/emulation/planted.cu, and what the message must say.
MISTAKES = {
    "missing barrier": "(without a barrier between|which nobody has written)",
    "write after read": "without a barrier between",
    "read out of bounds": "reads 4 bytes out of bounds, at byte 1024 of in ",
    "write out of bounds": "writes 4 bytes out of bounds, at byte 1024 of out ",
    "shared memory out of bounds": "out of bounds, at byte 256 of shared memory ",
    "accumulation without atomics": "without a barrier between",
    "shuffle in a branch": "for lanes that have returned",
    "shuffles at two places": "or for other lanes",
    "shuffle outside its mask": "outside its own mask",
    "barrier in a branch": "waits at __syncthreads",
    "uninitialised shared memory": "of shared memory, which nobody has written",
    "warp barrier for a block": "(without a barrier between|which nobody has written)",
    "misaligned": "not a multiple of it",
}
RIGHT = ["right neighbour", "right accumulation", "right shuffle", "right warp barrier"]


# Seen by AddressSanitizer, which stops the process.
BY_ADDRESS = [
    "own array out of bounds",
    "read out of bounds",
    "write out of bounds",
    "shared memory out of bounds",
]
ADDRESS = os.environ.get("FASTGAN_EMULATION") == "address"
# Tests of the kernels that are run again under it.
UNDER_ADDRESS = ["bias_act", "conv3d", "norm_act", "slope_penalty"]


def library(name: str) -> Path:
    """One of the compiler's own libraries."""
    cxx = os.environ.get("CXX", "c++")
    found = subprocess.run(
        [cxx, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    path = Path(found.stdout.strip())
    if not path.is_file():
        pytest.skip(f"{cxx} has no {name}")
    return path


if not ADDRESS:

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("name", MISTAKES)
    def test_catches(name: str, seed: int, emulated) -> None:
        emulated.seed(seed)
        assert re.search(MISTAKES[name], emulated.run_planted(name))

    def test_kernels_under_address_sanitizer() -> None:
        """The planted mistakes are caught, and no kernel makes one, in a process of its own."""
        libraries = [library("libasan.so"), library("libstdc++.so.6")]
        environment = {
            **os.environ,
            # exceptions pass through the sanitizer, which looks for the C++ library at its start
            "LD_PRELOAD": " ".join(map(str, libraries)),
            "ASAN_OPTIONS": "detect_leaks=0",
            "FASTGAN_EMULATION": "address",
            "FASTGAN_EMULATION_SHAPES": "2",
        }
        files = [str(HERE / f"test_{name}.py") for name in ("emulation", *UNDER_ADDRESS)]
        # what a sanitizer says before it stops the process has to get past pytest
        command = [sys.executable, "-m", "pytest", "-x", "-s", "-p", "no:cacheprovider", *files]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, (run.stdout + run.stderr)[-8000:]
        assert "skipped" not in run.stdout

else:

    @pytest.mark.parametrize("name", BY_ADDRESS)
    def test_address_sanitizer_catches(name: str, emulated) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(Path(emulated.__file__).parent)!r}); "
            f"import fastgan_emulated; fastgan_emulated.run_planted({name!r})"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.returncode != 0 and "ERROR: AddressSanitizer" in run.stderr


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", RIGHT)
def test_passes(name: str, seed: int, emulated) -> None:
    emulated.seed(seed)
    assert emulated.run_planted(name) == ""


def test_every_planted_kernel_is_run(emulated) -> None:
    assert set(emulated.planted()) == {*MISTAKES, *RIGHT, *BY_ADDRESS}
