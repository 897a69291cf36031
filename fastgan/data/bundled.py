"""Data sets that are one archive of many equal volumes: the bundled LIDC nodules, and .npz."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.data.formats.array_file import read_npz
from fastgan.data.manifest import Item
from fastgan.data.stream import opened
from fastgan.errors import BadFile, ConfigError

__all__ = ["LIDC", "Archive", "read_archive", "read_lidc"]

LIDC = "lidc-nodules"
LIDC_LEAST = 6.0  # mm; below, a nodule is a few voxels and has no shape
RATINGS = (
    "malignancy",
    "spiculation",
    "lobulation",
    "sphericity",
    "texture",
    "subtlety",
    "margin",
    "calcification",
    "internalStructure",
)
NUMBERS = (*RATINGS, "diameter_mm", "volume_mm3", "slice_thickness", "pixel_spacing")


@dataclass(frozen=True)
class Archive:
    """Volumes of one grid.

    Attributes:
        arrays: [N, D, H, W] or [N, C, D, H, W], uint8 or a float type.
        items: one per volume.
        spacing: mm along D, H, W.
        low, high: values that become -1 and 1; None where the file does not say.
        digest: sha256 of the file, hex.
    """

    arrays: np.ndarray
    items: list[Item]
    spacing: tuple[float, float, float]
    low: float | None
    high: float | None
    digest: str


def read_lidc(shape: tuple[int, int, int], conditional: bool) -> Archive:
    """The bundled nodules of at least 6 mm: consensus masks of 48 mm cubes.

    Labels are benign (mean malignancy < 3) and malignant (> 3); those of exactly 3 have none and
    are left out when conditional.

    Args:
        shape: (32, 32, 32) for 1.5 mm voxels or (48, 48, 48) for 1 mm.
        conditional: whether every item needs a label.

    Raises:
        ConfigError: another shape.
        BadFile: the bundled file is damaged.
    """
    if tuple(shape) not in ((32, 32, 32), (48, 48, 48)):
        raise ConfigError(
            f"data.shape: {LIDC} is bundled as 32 x 32 x 32 and 48 x 48 x 48, got {tuple(shape)}"
        )
    path = Path(__file__).with_name(f"lidc_nodules_{shape[0]}.npz")
    arrays, digest = _read(path)
    keep = arrays["diameter_mm"] >= LIDC_LEAST
    if conditional:
        keep &= arrays["malignancy"] != 3.0
    items = [_nodule(arrays, int(i)) for i in np.nonzero(keep)[0]]
    sizes = arrays["spacing"].tolist()
    return Archive(arrays["masks"][keep], items, (sizes[0], sizes[1], sizes[2]), 0.0, 1.0, digest)


def _nodule(arrays: dict[str, np.ndarray], i: int) -> Item:
    malignancy = float(arrays["malignancy"][i])
    label = None if malignancy == 3.0 else "benign" if malignancy < 3.0 else "malignant"
    attributes: dict[str, float | str | None] = {name: float(arrays[name][i]) for name in NUMBERS}
    attributes["readers"] = int(arrays["readers"][i])
    attributes["contrast_used"] = bool(arrays["contrast_used"][i])
    index = int(arrays["index"][i])
    return Item(
        f"{LIDC}#{index}", label, str(arrays["patient"][i]), modality="mask", attributes=attributes
    )


def read_archive(path: Path | str) -> Archive:
    """A .npz of many volumes: `volumes` (or `images`) [N, D, H, W] or [N, 1, D, H, W].

    Optional: `labels` [N], `subjects` [N], `sites` [N], `spacing` [3] in mm. Also the MedMNIST
    layout `train_images`, `val_images`, `test_images` with `*_labels`, whose val and test are
    held out. uint8 volumes map 0..255 to [-1, 1].

    Raises:
        BadFile: no such arrays, lengths that disagree, or voxels that are not finite.
    """
    path = Path(path)
    arrays, digest = _read(path)
    parts = [
        (split, arrays[f"{name}_images"], arrays.get(f"{name}_labels"))
        for name, split in (("train", "train"), ("val", "holdout"), ("test", "holdout"))
        if f"{name}_images" in arrays
    ]
    if not parts:
        key = next((k for k in ("volumes", "images") if k in arrays), None)
        if key is None:
            raise BadFile(
                f"{path}: no array named volumes, images or train_images, but {list(arrays)}; of "
                "a file of one volume name its folder"
            )
        parts = [("", arrays[key], arrays.get("labels"))]
    volumes: list[np.ndarray] = []
    items: list[Item] = []
    for split, stack, labels in parts:
        if stack.ndim == 5 and stack.shape[1] == 1:
            stack = stack[:, 0]
        if stack.ndim != 4 or stack.size == 0 or stack.dtype.kind not in "biuf":
            raise BadFile(
                f"{path}: volumes must be real [N, D, H, W], got {stack.dtype} {stack.shape}"
            )
        if not np.isfinite(stack).all():
            raise BadFile(f"{path}: volumes hold NaN or infinite voxels")
        columns = {"labels": labels} | {k: arrays.get(k) for k in ("subjects", "sites")}
        for name, column in columns.items():
            if column is not None and column.size != len(stack):
                raise BadFile(f"{path}: {name}: {column.size} values for {len(stack)} volumes")
        named = {k: None if c is None else c.reshape(-1) for k, c in columns.items()}
        for i in range(len(stack)):
            number = len(items)
            values = {k: None if c is None else str(c[i]) for k, c in named.items()}
            items.append(
                Item(
                    f"{path}#{number}",
                    values["labels"],
                    values["subjects"] or f"{path.stem}-{number}",
                    site=values["sites"],
                    split=split or None,
                )
            )
        volumes.append(stack)
    if len({v.shape[1:] for v in volumes}) != 1:
        raise BadFile(f"{path}: volumes of different shapes: {[v.shape for v in volumes]}")
    joined = np.concatenate(volumes)
    spacing = np.asarray(arrays.get("spacing", np.ones(3)), float).reshape(-1)
    if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise BadFile(f"{path}: spacing: three positive millimetres are meant, got {spacing}")
    low, high = (0.0, 255.0) if joined.dtype == np.uint8 else (None, None)
    return Archive(
        joined, items, (float(spacing[0]), float(spacing[1]), float(spacing[2])), low, high, digest
    )


def _read(path: Path) -> tuple[dict[str, np.ndarray], str]:
    with opened(path) as reader:
        content = reader.read(reader.file_size)
    return read_npz(content, str(path)), hashlib.sha256(content).hexdigest()
