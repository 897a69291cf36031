"""How many kernels Triton would compile for the trial of an operator, without a GPU.

    python bench/tools/triton_variants.py [--json] [operator ...]       # such as norm_act

Triton compiles a launch anew for each dtype, constant and size that it specialises: sizes of 1,
multiples of 16. A trial draws dozens of shapes, and a variant takes about a second. Launches are
counted instead of started, so what the trial finds means nothing here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from machine_code_triton import distinct, launches

__all__ = ["OPERATORS", "count"]

OPERATORS = ("norm_act", "conv3d_channels", "norm_act_conv", "nearest")


def count(*operators: str) -> dict[str, dict[str, int]]:
    """Variants of each kernel by operator, counted where Triton compiles and does not interpret."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, __file__, "--json", *operators],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{__file__} failed:\n{done.stderr[-4000:]}")
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


def _variants(operator: str) -> dict[str, int]:
    import torch

    from fastgan.ops.implementations.dispatch import implementation
    from fastgan.ops.implementations.triton import conv3d, norm_act, runtime
    from fastgan.ops.proof.certify import TRIALS

    assert torch.float64 not in norm_act.DTYPES and (torch.bfloat16,) == conv3d.DTYPES
    runtime.interpreted = True  # from here on they take tensors of the CPU

    def trial() -> None:
        draw = torch.Generator().manual_seed(24)
        with implementation("triton"):
            TRIALS[operator](draw, torch.device("cpu"), 24)

    seen = {distinct(launch) for launch in launches(trial)}
    return dict(Counter(str(name) for name, *_ in seen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("operators", nargs="*", help="which; none: all")
    options = parser.parse_args()
    found = {operator: _variants(operator) for operator in options.operators or OPERATORS}
    if options.json:
        print(json.dumps(found))
        return
    for operator, kernels in found.items():
        print(f"{operator}: {sum(kernels.values())} variants")
        for name, number in sorted(kernels.items()):
            print(f"  {name:<36}{number:5}")


if __name__ == "__main__":
    main()
