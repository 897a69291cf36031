"""What kind of values a volume holds, read off the values: HU, intensities, maps, masks, labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastgan.data.volume import Volume
from fastgan.errors import BadFile

__all__ = ["contrast_of", "doubts", "guess_modality", "refuse_labels"]

SAMPLE = 200_000  # voxels looked at
AIR = (-1100.0, -900.0)  # HU, of a CT whatever its padding
PADDING = -1100.0  # below it a CT has the few values a scanner fills its corners with
TISSUE = (-200.0, 200.0)  # HU, where most of a body without air lies
MOST_LABELS = 12  # whole numbers of so few values are names, however they are strewn
NAMES = 2048  # no atlas has more regions
MAPS = re.compile(r"gm|wm|csf|pve|prob.*")  # words of file names: a tissue's probability
ALIKE = 0.5  # share of neighbours of one value, from which regions are names and not intensities
ZEROS = 0.3  # share of exact zeros that a background set by a program leaves; CT's is -1000
NOISE = 0.1  # of the highest value: how far below zero the ringing of a filter takes an MR
# Words of file names, in lower case, for what an MR shows.
CONTRASTS = {
    **{name: "T1w" for name in ("t1w", "t1", "t1n", "mprage", "mp2rage")},
    **{name: "T2w" for name in ("t2w", "t2", "t2tse")},
    **{name: "T1w with contrast agent" for name in ("t1ce", "t1c", "t1gd", "ce-t1w")},
    **{name: "FLAIR" for name in ("flair", "t2f")},
    **{name: "PDw" for name in ("pd", "pdw")},
    **{name: "DWI" for name in ("dwi", "b1000")},
    **{name: "T2star" for name in ("t2star", "t2starw", "swi")},
    **{name: name.upper() for name in ("adc", "fa", "md", "bold", "asl", "angio")},
}


def guess_modality(volume: Volume) -> str:
    """One of "ct", "mr", "map", "mask", "labels": what the file says, else what its values say.

    - mask: two values, the lower 0.
    - labels: whole numbers from 0 up, of at most 12 values or in regions of one value.
    - ct: air near -1000 HU, or whole numbers of soft tissue around 0, without a background of 0.
    - map: 0 to 1, signed without being CT, such as a statistic or a perfusion, or from 0 up and
      named as the probability of a tissue.
    - mr: the rest.
    """
    values = _sample(volume.array)
    low, high = float(volume.array.min()), float(volume.array.max())
    levels = np.unique(values)
    if low == high:
        return volume.source.says or "mr"
    if len(levels) <= 2 and low == 0.0:
        return "mask"
    whole = bool((values == np.rint(values)).all())
    if volume.source.says == "labels" or (low >= 0.0 and whole and _names(volume.array, levels)):
        return "labels"
    if volume.source.says is not None:
        return volume.source.says
    if low >= 0.0:
        return "map" if high <= 1.0 or _named_map(volume.source.path) else "mr"
    if _is_ct(values, low, whole):
        return "ct"
    return "mr" if -low <= NOISE * high and high > 1.0 else "map"


def doubts(volume: Volume, modality: str) -> list[str]:
    """Warnings where a volume's values look like another modality than it is read as."""
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        return [f"constant, every voxel is {low:g}"]
    found = guess_modality(volume)
    if found == modality or {found, modality} == {"mask", "map"}:
        return []
    looks = {
        "ct": "looks like CT (air near -1000 HU)",
        "mr": "looks like MR (no values of HU, and above 1)",
        "map": "looks like a map (0 to 1, signed values that are not HU, or named as a tissue)",
        "mask": "looks like a mask (two values)",
        "labels": "looks like a label map (whole numbers in regions of one value)",
    }
    return [f"{looks[found]} and is read as {modality}"]


def refuse_labels(volume: Volume, modality: str) -> None:
    """BadFile for a label map that would be normalised and interpolated like an image."""
    if modality in ("ct", "mr") and guess_modality(volume) == "labels":
        count = len(np.unique(_sample(volume.array)))
        raise BadFile(
            f"{volume.source.path}: a label map ({count} whole numbers in regions), whose values "
            "must not be interpolated; leave it out, make a mask of 0 and 1 of each label, or set "
            "data.window to take it as it is"
        )


def contrast_of(path: Path | str) -> str | None:
    """What an MR shows, by the last word of its file's name that says so; None where none does."""
    return next((CONTRASTS[word] for word in reversed(_words(path)) if word in CONTRASTS), None)


def _named_map(path: Path | str) -> bool:
    return any(MAPS.fullmatch(word) for word in _words(path))


def _words(path: Path | str) -> list[str]:
    return re.split(r"[_\-. ]+", Path(path).name.lower())


def _sample(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Voxels spread over the volume, by a step without a factor in common with its extents."""
    step = max(1, array.size // SAMPLE)
    while step > 1 and any(np.gcd(step, extent) > 1 for extent in array.shape):
        step += 1
    return array.reshape(-1)[::step]


def _names(array: NDArray[np.float32], levels: NDArray[np.float32]) -> bool:
    if len(levels) <= MOST_LABELS:
        return True
    if len(levels) > NAMES:
        return False
    # The middle slab with whole rows along the longest axis, so that neighbours are neighbours.
    rows = np.moveaxis(array, int(np.argmax(array.shape)), -1)
    middle = rows.shape[0] // 2
    slab = rows[max(middle - 4, 0) : middle + 4]
    inside = (slab[..., :-1] != 0.0) & (slab[..., 1:] != 0.0)
    alike = (slab[..., :-1] == slab[..., 1:]) & inside
    return bool(alike.sum() > ALIKE * max(int(inside.sum()), 1))


def _is_ct(values: NDArray[np.float32], low: float, whole: bool) -> bool:
    if float((values == 0.0).mean()) > ZEROS:
        return False
    air = float(((values >= AIR[0]) & (values <= AIR[1])).mean())
    below = values[values < PADDING]
    strewn = len(np.unique(below)) > 3 and len(below) > 1e-3 * len(values)
    if low < AIR[1] and air > 0.01 and not strewn:
        return True
    tissue = float(((values >= TISSUE[0]) & (values <= TISSUE[1])).mean())
    return whole and not strewn and low < -20.0 and tissue > 0.3
