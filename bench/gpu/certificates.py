"""Every GPU kernel against float64, at small random shapes and at those of production.

Writes what a certificate holds to certificate.json (certificate-triton.json) in the folder of the
results after each operator; committed as fastgan/ops/implementations/certified/sm_<nn>.json, it
counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from bench.gpu.clock import Row, Setting
from fastgan.cli.bench import certificate_states
from fastgan.ops.proof import certify, production


def rows(setting: Setting) -> Iterator[Row]:
    """One an operator and implementation."""
    names = [setting.only] if setting.only else None
    path = setting.out / f"certificate{f'-{setting.only}' if setting.only == 'triton' else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if setting.quick:
        _shrink()
    known = 0
    start = time.monotonic()
    shapes = 1 if setting.quick else 24
    for state in certificate_states(setting.device, shapes, names=names):
        path.write_text(json.dumps(state, indent=1) + "\n")
        for key, found in list(state["results"].items())[known:]:
            op, name = key.split()
            row: Row = {"op": op, "implementation": name, "shapes": shapes}
            row |= {"took": round(time.monotonic() - start, 2), "figures": found["figures"]}
            if found["problems"]:
                row |= {"problem": found["problems"][0], "problems": found["problems"][:20]}
            yield row
        known = len(state["results"])
        start = time.monotonic()


def _shrink() -> None:
    """The same trials at sizes that a CPU does in seconds."""
    certify._SIZES = [(2, 6, 3, 4, 5)]
    certify._CONVOLUTIONS = [((1, 1, 5, 6, 9), 16, (3, 4, 3), (1, 2, 1), (1, 0, 2))]
    production.VOLUMES = [((1, 8, 6, 6, 6), 8), ((1, 12, 5, 5, 5), 3)]
    production.BEYOND = (3, 4, 5, 5, 5)
    production.CONVOLUTION = (2, 10, 16, 4, 2)
    production.NEIGHBOURS = (3, 9, 500)
