"""The kernels' trials at first use, as a user meets them: seconds of each, and what `auto` takes.

In an empty cache directory, so that nothing is known; the second round must find the verdicts of
the first.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator

import torch

from bench.gpu.clock import Row, Setting
from fastgan.ops.implementations import certificates, dispatch, first_use


def rows(setting: Setting) -> Iterator[Row]:
    """One an operator and implementation that could run here: native first."""
    probe = torch.empty(1, 1, 2, 2, 2, device=setting.device)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_CACHE_HOME": folder, first_use.VARIABLE: "auto"}
        kernels = [
            (op, name)
            for name in ("native", "triton")
            for op in dispatch.OPERATORS
            if (op, name, "cuda") in dispatch.TABLE and name in dispatch.implementations(op, probe)
        ]
        for op, name in kernels:
            row: Row = {"op": op, "implementation": name}
            if setting.device.type == "cpu":
                # No verdict is kept of a CPU: the child alone, with the kernels of the CPU.
                if name == "triton" or op not in ("bias_act",):
                    continue
                found = first_use._tried(op, name, setting.device)
                yield row | {"answer": str(found)}
                continue
            start = time.monotonic()
            answer = certificates.obstacle(op, name, setting.device)
            row |= {"took": round(time.monotonic() - start, 2), "answer": answer or "taken"}
            first_use._known.clear()
            start = time.monotonic()
            again = certificates.obstacle(op, name, setting.device)
            row["again"] = round(time.monotonic() - start, 4)
            failed = any(word in str(answer) for word in ("its trial", "another process"))
            if again != answer or failed:
                row["problem"] = f"first {answer}, then {again}"
            yield row
