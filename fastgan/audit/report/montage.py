"""What was judged, to look at: some generated volumes, and unseen patients beside them."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bytes, Floats, Integers
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Figure
from fastgan.pictures.slices import encode_png, enlarge
from fastgan.pictures.surfaces import shaded_surface

__all__ = ["montage"]

SHOWN = 6
_LEAST = 96  # pixels of a picture's shorter side
_GAP = 2


def montage(evidence: Evidence, options: Options) -> tuple[Figure, ...]:
    """A row of generated volumes and one of held-out patients, drawn by the seed.

    Translations show the patients that they were made of, so they count as pictures of patients.
    """
    rows = []
    if evidence.generated is not None and len(evidence.generated):
        made = evidence.generated
        said = "Volumes drawn at random, one picture each"
        rows.append(_row(made, evidence, options, said, patient=evidence.translate is not None))
    if len(evidence.holdout):
        said = "Patients that the generator never saw, one volume each"
        rows.append(_row(evidence.holdout, evidence, options, said, patient=True))
    return tuple(rows)


def _row(
    cohort: Cohort, evidence: Evidence, options: Options, caption: str, *, patient: bool
) -> Figure:
    chosen = _chosen(cohort, options.rng(f"report/montage/{cohort.name}"))
    masks = evidence.modality == "mask"
    pictures = [_picture(cohort.values[i], masks=masks) for i in chosen]
    height, width = pictures[0].shape
    line = np.zeros((height, len(pictures) * (width + _GAP) - _GAP), np.uint8)
    for i, picture in enumerate(pictures):
        line[:, i * (width + _GAP) : i * (width + _GAP) + width] = picture
    large, _ = enlarge(line, min(height, width), _LEAST)
    view = "surfaces, lit from the upper left" if masks else "middle slices across the first axis"
    title = cohort.name.capitalize()
    return Figure(title, f"{caption}: {view}.", encode_png(large), patient=patient)


def _chosen(cohort: Cohort, rng: np.random.Generator) -> Integers:
    """Positions of at most `SHOWN` volumes of different subjects, the classes in turn."""
    order = rng.permutation(len(cohort))
    order = order[np.sort(np.unique(cohort.subjects[order], return_index=True)[1])]
    if cohort.labels is not None:
        labels = np.asarray(cohort.labels)[order]
        turn = np.zeros(len(order), np.int64)
        for c in np.unique(labels):
            turn[labels == c] = np.arange(np.count_nonzero(labels == c))
        order = order[np.argsort(turn, kind="stable")]
    chosen: Integers = order[:SHOWN]
    return chosen


def _picture(volume: Floats, *, masks: bool) -> Bytes:
    """[H, W] grey values."""
    if masks:
        seen = np.nan_to_num(shaded_surface((volume + 1) / 2))
    else:
        seen = (volume[len(volume) // 2] + 1) / 2
    grey: Bytes = (255 * np.clip(seen, 0, 1)).round().astype(np.uint8)
    return grey
