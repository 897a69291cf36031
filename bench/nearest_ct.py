"""The pyramid on patches of a chest CT: how much it reads, from how many queries on it pays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import nibabel
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from turns import Clock

from fastgan.ops import NearestIndex, nearest

# Side of a patch: step between targets. Queries come from the upper quarter of the body, which no
# target touches.
SETS = {64: 26, 32: 15}
UPPER = 0.75
# Queries of a call: as few as one, and so many that `auto` builds the pyramid.
COUNTS = (1, 8, 64, 256, 512)
# Queries that come in batches, all of them counted.
BATCH, STREAMS = 64, (512,)
MOST = max(COUNTS)
# Patches with less tissue (above -900 HU) than this share are air, and all alike.
TISSUE = 0.1


def measure(path: Path, quick: bool, rounds: int, clock: Clock) -> dict[str, Any]:
    """Fractions read and times; fails where a neighbour differs from brute force."""
    ct = at_1_mm(path)
    out: dict[str, Any] = {"volume at 1 mm": list(ct.shape)}
    for side, step in SETS.items():
        border = int(UPPER * ct.shape[2])
        target = grid(ct[:, :, :border], side, 3 * step if quick else step)
        pool = grid(ct[:, :, border:], side, side // 2)
        # where there are fewer patches they are asked for again: a search remembers nothing
        fresh = pool[torch.randperm(len(pool)).repeat(1 + MOST // len(pool))[:MOST]]
        copies = target[torch.randperm(len(target)).repeat(1 + MOST // len(target))[:MOST]]
        copies = (copies + 20 * torch.randn(copies.shape)).round().short()
        patches = min(len(pool), MOST)
        out[f"{side}^3"] = found = {"targets": len(target), "fresh queries": patches}
        brute = NearestIndex(target, method="brute")
        built = []
        for _ in range(rounds):
            index = NearestIndex(target, method="pyramid")
            built.append(seconds(partial(index.search, fresh[:1]), clock))
        found["index built, ms"] = 1e3 * min(built)
        for name, query in (("fresh", fresh), ("copies", copies)):
            expected, by_index = nearest(query, target), index.search(query)
            if not (
                torch.equal(expected[0], by_index.distance)
                and torch.equal(expected[1], by_index.index)
            ):
                raise SystemExit(f"{side}^3, {name}: the pyramid differs from brute force")
            found[f"read, {name}, %"] = 100 * by_index.read
            measured = times(target, query, brute, index, rounds, clock)
            found[name] = {case: {n: min(t) for n, t in own.items()} for case, own in measured}
            found[f"{name}, medians"] = {
                case: {n: median(t) for n, t in own.items()} for case, own in measured
            }
        show(side, found)
    return out


def at_1_mm(path: Path) -> Tensor:
    """[D, H, W] int16 HU of a NIfTI file, linear in between."""
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    zoomed = ndimage.zoom(voxels, image.header.get_zooms()[:3], order=1)
    return torch.from_numpy(zoomed.round().astype(np.int16))


def grid(ct: Tensor, side: int, step: int) -> Tensor:
    """[M, side, side, side]: patches on a grid that hold tissue."""
    for axis in range(3):
        ct = ct.unfold(axis, side, step)
    patches = ct.reshape(-1, side, side, side)
    return torch.stack([p for p in patches if (p > -900).float().mean() >= TISSUE])


def seconds(run: Callable[[], object], clock: Clock) -> float:
    """Time of a call."""
    start = clock()
    run()
    return clock() - start


def times(
    target: Tensor,
    query: Tensor,
    brute: NearestIndex,
    index: NearestIndex,
    rounds: int,
    clock: Clock,
) -> list[tuple[str, dict[str, list[float]]]]:
    """Milliseconds of brute force, the built pyramid, and `auto` with a new index each time."""
    out: list[tuple[str, dict[str, list[float]]]] = []
    cases = [(str(n), n, n) for n in COUNTS]
    cases += [(f"{n} in batches of {BATCH}", n, BATCH) for n in STREAMS]
    for case, n, batch in cases:
        parts = query[:n].split(batch)
        taken: dict[str, list[float]] = {"brute": [], "pyramid": [], "auto": []}
        # short times vary more
        for turn in range(3 * rounds if n <= BATCH else rounds):
            # the other way round in every second turn, as what runs first may find colder caches
            for name in list(taken)[:: -1 if turn % 2 else 1]:
                chosen = {"brute": brute, "pyramid": index}.get(name) or NearestIndex(target)
                run = partial(searched, chosen, parts)
                taken[name].append(1e3 * seconds(run, clock))
        out.append((case, taken))
    return out


def searched(index: NearestIndex, parts: tuple[Tensor, ...]) -> None:
    """All batches, one after the other."""
    for part in parts:
        index.search(part)


def show(side: int, found: dict[str, Any]) -> None:
    built = found["index built, ms"]
    print(f"chest CT, {found['targets']} targets of {side}^3, index {built:.0f} ms")
    for name in ("fresh", "copies"):
        print(f"    {name}: {found[f'read, {name}, %']:.2f} % read", flush=True)
        for n, t in found[name].items():
            print(
                f"    {n:>20} queries: brute {t['brute']:8.1f}  pyramid {t['pyramid']:8.1f}  "
                f"auto {t['auto']:8.1f} ms"
            )
        saved = (found[name]["64"]["brute"] - found[name]["64"]["pyramid"]) / 64
        pays = built / saved if saved > 0 else None
        found[f"break-even, {name}, queries"] = pays
        text = "does not pay" if pays is None else f"pays from {pays:.0f} queries on"
        print(f"    {text}, the index included", flush=True)
