"""What the compiler made of the inner loop: speed that needs no clock."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = sorted(ROOT.glob("build/native/*/cpu/nearest/dots_kernels.avx2.o"))
NO_OBJECT = "no objdump, or no AVX2 object of an in-place build"


@pytest.mark.skipif(not OBJECTS or shutil.which("objdump") is None, reason=NO_OBJECT)
@pytest.mark.parametrize("queries", [1, 2, 3])
def test_tile_loop_has_products_and_no_spills(queries: int) -> None:
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", "-C", OBJECTS[0]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    body = re.search(rf"^\S+ <[^\n]*tile<{queries}>[^\n]*>:\n(.*?)\n\n", text, re.M | re.S)
    assert body is not None
    lines = body.group(1).splitlines()
    products = [i for i, line in enumerate(lines) if "vpmaddwd" in line]
    # queries x 4 targets, all in one loop
    assert len(products) == 4 * queries
    end = next(i for i in range(products[-1], len(lines)) if re.search(r"\tj\w+ ", lines[i]))
    loop = lines[products[0] : end]
    assert sum("vpaddd" in line for line in loop) == 4 * queries
    assert not [line for line in loop if "%rsp" in line or "%rbp" in line]
