"""Recall and error of every path of `nearest` on every dtype, with planted near-copies."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.ops import NearestIndex, nearest, nearest_stream
from fastgan.ops.implementations.cpu import nearest as native_nearest
from fastgan.reference.nearest import nearest as reference

K = 5
SHAPE = (16, 16, 16)
# Data by name; the two last of int16 are CT as scanners write it, and every value there is.
KINDS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int16, padding of -3024": torch.int16,
    "int16, full range": torch.int16,
}


def rows(kind: str, count: int) -> Tensor:
    """[count, ...] of a kind."""
    if not kind.startswith(("int", "uint")):
        return (10 + torch.randn(count, *SHAPE)).to(KINDS[kind])
    low, high = {"uint8": (0, 256), "int16, full range": (-32768, 32768)}.get(kind, (-1024, 3072))
    x = torch.randint(low, high, (count, *SHAPE)).to(KINDS[kind])
    if "padding" in kind:
        x[:, :, :4] = -3024
    return x


def planted(kind: str, target: Tensor) -> Tensor:
    """[24, ...] copies of targets at 1e-1 ... 1e-6 of the typical distance, rounded."""
    size = 10.0 ** -(1 + torch.arange(24) % 6).double()
    typical = (target[0].double() - target[1].double()).norm()
    noise = torch.randn(24, *SHAPE, dtype=torch.float64)
    noise /= noise.flatten(1).norm(dim=1)[:, None, None, None]
    copies = target[:24].double() + size[:, None, None, None] * typical * noise
    if target.is_floating_point():
        return copies.to(target.dtype)
    info = torch.iinfo(target.dtype)
    # A distance of whole numbers is at least one.
    copies = copies.round()
    copies[:, 0, 0, 0] = target[:24, 0, 0, 0].double() + torch.where(
        target[:24, 0, 0, 0] == info.max, -1, 1
    )
    return copies.clamp(info.min, info.max).to(target.dtype)


def paths() -> dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    def native(path: str) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        def run(query: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            found = native_nearest.nearest(query.flatten(1), target.flatten(1), K, None, path=path)
            return found[0].sqrt(), found[1]

        return run

    def pyramid(query: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        found = NearestIndex(target, method="pyramid").search(query, K)
        return found.distance, found.index

    def stream(query: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if target.dtype == torch.bfloat16:  # NumPy has none
            return nearest(query, target, K)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "targets.npy"
            np.save(file, target.numpy())
            return nearest_stream(query, file, K, chunk_bytes=2**20)

    out = {name: native(name) for name in ("direct", "dots", "wide")}
    return out | {"pyramid": pyramid, "stream": stream}


def study(quick: bool) -> dict[str, Any]:
    """Recall and largest relative error, by kind and path; fails where the contract is missed."""
    out: dict[str, Any] = {}
    for kind in KINDS:
        target = rows(kind, 60 if quick else 500)
        query = torch.cat((planted(kind, target), rows(kind, 24)))
        distance, index = zip(*(reference(q, target, K) for q in query.split(4)), strict=True)
        expected, at = torch.cat(distance), torch.cat(index)
        for path, search in paths().items():
            found = search(query, target)
            recall = float((found[1] == at).double().mean())
            error = ((found[0] - expected).abs() / expected).nan_to_num(0, 0, 0).max().item()
            exact = bool((found[0][expected == 0] == 0).all())
            out.setdefault(kind, {})[path] = {"recall": recall, "error": error}
            if recall < 1 or not error <= 1e-6 or not exact:
                raise SystemExit(f"{kind}, {path}: recall {recall}, error {error:.1e}")
        worst = max(v["error"] for v in out[kind].values())
        print(f"{kind}: recall 1 on {', '.join(out[kind])}; largest error {worst:.1e}", flush=True)
    return out
