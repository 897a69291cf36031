"""Every GPU kernel under compute-sanitizer: out of bounds, races, uninitialised reads.

    python bench/tools/sanitize.py [memcheck] [racecheck] [initcheck]

For each tool a planted bug (bench/tools/planted.cu) must be reported first; then the trials of a
certificate run under it, PyTorch's caching of memory switched off. Needs a GPU, nvcc and
compute-sanitizer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = ("memcheck", "racecheck", "initcheck")
FOUND = 9
# PyTorch's kernels in the same process are not looked at.
NAMES = ("norm_act", "bias_act", "slope_penalty", "conv_single", "nearest")
TRIALS = """
import torch
from fastgan.ops.proof import certify
from fastgan.ops.implementations import dispatch

device = torch.device("cuda")
x = torch.empty(1, 1, 2, 2, 2, device=device)
ran = 0
for op in dispatch.OPERATORS:
    for name in dispatch.implementations(op, x):
        result = certify.certify(op, name, device, shapes=3)
        print(op, name, "; ".join(result.problems) or "correct", flush=True)
        ran += 1
raise SystemExit(0 if ran else "no operator has a kernel for this GPU")
"""


def required(program: str) -> str:
    """Path of a program, or the end."""
    path = shutil.which(program)
    if path is None:
        raise SystemExit(f"no {program} on PATH")
    return path


def sanitized(tool: str, *command: str, names: tuple[str, ...] = ()) -> int:
    """Exit code of a command under a tool: FOUND where the tool reports something."""
    filters = [word for name in names for word in ("--kernel-name", f"kernel_substring={name}")]
    words = [required("compute-sanitizer"), "--tool", tool, "--error-exitcode", str(FOUND)]
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return subprocess.run([*words, *filters, *command], env=environment).returncode


def main() -> int:
    """0 if every planted bug is reported and no kernel is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=", ".join(TOOLS))
    tools = parser.parse_args().tools or TOOLS
    if unknown := set(tools) - set(TOOLS):
        parser.error(f"no tool {', '.join(sorted(unknown))}; there are {', '.join(TOOLS)}")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "planted"
        source = Path(__file__).with_name("planted.cu")
        subprocess.run([required("nvcc"), "-arch=native", source, "-o", planted], check=True)
        for tool in tools:
            if sanitized(tool, str(planted), tool) != FOUND:
                print(f"{tool}: the planted bug was not reported; its silence says nothing")
                wrong += 1
                continue
            code = sanitized(tool, sys.executable, "-c", TRIALS, names=NAMES)
            verdict = {0: "nothing found", FOUND: "reports"}.get(code, f"ended with {code}")
            print(f"{tool}: {verdict}")
            wrong += code != 0
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
