"""Builds the extension in place, with CUDA for this machine's GPU, without pip and without network.

    python bench/gpu/build.py [--dry-run]

Needs setuptools, pybind11, ninja and nvcc. Where the package is not installed, its two folders
that an installation maps, kernels/ and examples/, become links inside fastgan/. FASTGAN_CUDA_ARCHS
chooses other architectures than the GPU's. `--dry-run` looks for the tools and compiles nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("setuptools", "pybind11", "ninja", "numpy", "torch")
MAPPED = ("kernels", "examples")
TOLD = """
import json, fastgan.kernels
from fastgan.ops.implementations import certificates, extension
assert extension.reason() is None, extension.reason()
info = extension.build_info()
digests = {f"{name} sources": certificates.digest(name) for name in ("native", "triton")}
print(json.dumps({"nvcc": info["cuda"], "archs": info["cuda_archs"], **digests}))
"""


def main() -> int:
    missing = [name for name in TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}")
    sys.path.insert(0, str(ROOT))
    import setup as rules

    if "--dry-run" in sys.argv[1:]:
        toolkit, archs, reason = rules.cuda_configuration(os.environ)
        print(
            f"would compile for {archs or reason}, by nvcc {toolkit.version if toolkit else None}"
        )
    else:
        os.environ.setdefault("FASTGAN_CUDA", "1")
        os.environ.setdefault("FASTGAN_CUDA_ARCHS", "native")
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        rules.compile_extension(ROOT / "fastgan" / f"_C{suffix}")
    for name in MAPPED:
        link = ROOT / "fastgan" / name
        found = subprocess.run(
            [sys.executable, "-c", f"import fastgan.{name}"], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        if found.returncode:
            link.symlink_to(Path("..") / name)
            print(f"linked: {link}")
    told = subprocess.run(
        [sys.executable, "-c", TOLD], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    print(json.dumps(json.loads(told.stdout)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
