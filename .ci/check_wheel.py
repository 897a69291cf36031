"""Checks a wheel: what it holds, and that it works outside the repository.

Usage: python .ci/check_wheel.py dist/fastgan-*.whl
The import runs with this interpreter, which must have torch, from an empty folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIRED = {
    "the extension": r"fastgan/_C\.[^/]*\.so",
    "the Triton kernels": r"fastgan/kernels/__init__\.py",
    "the place of certificates": r"fastgan/ops/implementations/certified/README\.md",
    "bundled data": r"fastgan/data/.*\.npz",
    "the template of run.html": r"fastgan/train/page/templates/run\.html\.j2",
    "the type marker": r"fastgan/py\.typed",
    "example configurations": r"fastgan/examples/.*\.yaml",
    "the license": r"fastgan-.*\.dist-info/licenses/LICENSE",
    "the notice": r"fastgan-.*\.dist-info/licenses/NOTICE",
}
FORBIDDEN = {
    "tests": r"(tests|bench|docs|examples|tools)/.*",
    "sources of the extension": r".*\.(cpp|cu|cuh|h|o|ninja)",
    "a second copy of kernels": r"kernels/.*",
    "caches": r".*__pycache__.*",
}
TRIAL = """
import os, sys, torch, fastgan, fastgan.kernels
from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cpu import norm_act as native
assert extension.reason() is None, extension.reason()
inside = os.path.realpath(sys.argv[1])
for module in (fastgan, fastgan.kernels, native):
    assert os.path.realpath(module.__file__).startswith(inside), module.__file__
x = torch.randn(2, 4, 3, 5, 7)
y, mean, rstd = native.norm_act_fwd(x, None, None, 2, 1e-5, 0.2)
wanted = torch.nn.functional.leaky_relu(torch.nn.functional.group_norm(x, 2), 0.2)
torch.testing.assert_close(y, wanted)
print(extension.build_info())
"""


def problems(names: list[str]) -> list[str]:
    """What is missing from, or does not belong into, a list of archive members."""
    found = [
        f"missing: {what} ({pattern})"
        for what, pattern in REQUIRED.items()
        if not any(re.fullmatch(pattern, name) for name in names)
    ]
    for what, pattern in FORBIDDEN.items():
        found += [f"{what}: {name}" for name in names if re.fullmatch(pattern, name)]
    return found


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print(__doc__, file=sys.stderr)
        return 2
    wheel = Path(sys.argv[1]).resolve()
    with zipfile.ZipFile(wheel) as archive:
        wrong = problems(archive.namelist())
    for line in wrong:
        print(f"{wheel.name}: {line}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        elsewhere = Path(folder) / "elsewhere"
        elsewhere.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        environ = {**os.environ, "PYTHONPATH": str(site)}
        trial = subprocess.run([sys.executable, "-c", TRIAL, str(site)], cwd=elsewhere, env=environ)
    return 1 if wrong or trial.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
