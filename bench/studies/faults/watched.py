"""Calls of a sanitized build of the extension, for so many minutes: see `sanitizers.sanitized`."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from importlib.machinery import ExtensionFileLoader


def main() -> None:
    import torch  # noqa: F401 (its OpenMP runtime must be the one that the extension finds)

    loader = ExtensionFileLoader("fastgan._C", sys.argv[1])
    spec = importlib.util.spec_from_loader("fastgan._C", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules["fastgan._C"] = module
    import fastgan

    fastgan._C = module  # type: ignore[attr-defined]
    from bench.studies.faults.calls import BATCH, Calls
    from fastgan.ops.implementations import extension

    assert extension.loaded() is module, "another build of the extension is in the way"
    calls, start, number = Calls(), time.monotonic(), 1
    while time.monotonic() - start < 60.0 * float(sys.argv[2]):
        found = calls.batch(number)
        kept = {"sanitized calls": BATCH}
        kept |= {"sanitizer reports": found["crashes"], "hangs": found["hangs"]}
        kept |= {key: n for key, n in found.items() if key.startswith("NOTE")}
        print(json.dumps(kept), flush=True)
        number += 2


if __name__ == "__main__":
    main()
