"""`python -m bench.gpu CHECK [--device cuda] [--quick] [--only NAME] [--out FOLDER]`.

Prints a JSON object a row, each as it comes; 1 where one has a problem.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

import torch

from bench.gpu.clock import Setting

CHECKS = (
    *("machine", "certificates", "operators", "cudnn", "first_use"),
    *("critic", "training", "peers"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; no figure of worth")
    parser.add_argument("--only", choices=("native", "triton"), help="of the implementations")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of further files")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device that this torch can use")
    setting = Setting(device, options.quick, options.only, options.out)
    wrong = 0
    for row in importlib.import_module(f"bench.gpu.{options.check}").rows(setting):
        print(json.dumps(row), flush=True)
        wrong += bool(row.get("problem"))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
