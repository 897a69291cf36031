"""DICOM series and enhanced images written with pydicom, as scanners do, or wrong on purpose."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SERIES = "1.2.826.0.1.3680043.8.498.1"


def rotation(seed: int) -> np.ndarray:
    """[3, 3] rows: directions of a row, of a column and of the stack; identity of seed 0."""
    if seed == 0:
        return np.eye(3)
    turned, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    turned[2] = np.cross(turned[0], turned[1])
    return turned


def header(**changes: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = changes.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", CT)
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    out = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    out.SOPClassUID, out.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    out.SeriesInstanceUID, out.Modality, out.SeriesDescription = SERIES, "CT", "thorax"
    out.PatientID, out.Manufacturer, out.SeriesNumber = "secret-4711", "ACME", 3
    out.SamplesPerPixel, out.PhotometricInterpretation = 1, "MONOCHROME2"
    out.BitsAllocated = out.BitsStored = 16
    out.HighBit, out.PixelRepresentation = 15, 1
    for name, value in changes.items():
        setattr(out, name, value)
    return out


def numbers(values: Any) -> list[str]:
    """Decimal strings, of which DICOM allows 16 characters."""
    return [f"{value:.12g}"[:16] for value in values]


def pixels_of(out: Dataset, pixels: np.ndarray) -> None:
    out.Rows, out.Columns = pixels.shape[-2:]
    out.PixelData = pixels.tobytes()


def write_series(
    folder: Path,
    voxels: np.ndarray,
    *,
    seed: int = 0,
    spacing: tuple[float, float, float] = (2.0, 0.5, 0.75),
    scales: list[tuple[float, float]] | None = None,
    shuffle: bool = True,
    shift: dict[int, np.ndarray] | None = None,
    change: dict[int, dict[str, Any]] | None = None,
    **same: Any,
) -> list[Path]:
    """Slices [S, rows, columns] int16 at `spacing` (between slices, rows, columns) mm.

    Args:
        shift: mm by which the position of a slice is wrong.
        change: fields of single slices.
        same: fields of all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row, column, normal = rotation(seed)
    names = np.random.default_rng(1).permutation(len(voxels)) if shuffle else range(len(voxels))
    paths = []
    for k, name in enumerate(names):
        out = header(**same)
        slope, intercept = (1.0, -1024.0) if scales is None else scales[k]
        out.RescaleSlope, out.RescaleIntercept = numbers([slope, intercept])
        place = np.array([-30.0, 40.0, 50.0]) + normal * spacing[0] * k
        place = place + (shift or {}).get(k, np.zeros(3))
        out.ImagePositionPatient = numbers(place)
        out.ImageOrientationPatient = numbers([*row, *column])
        out.PixelSpacing = numbers(spacing[1:])
        pixels_of(out, voxels[k])
        for field, value in (change or {}).get(k, {}).items():
            setattr(out, field, value)
        paths.append(folder / f"IM{name:04d}")
        save(out, paths[-1])
    return paths


def write_enhanced(path: Path, voxels: np.ndarray, seed: int = 0) -> Path:
    """One file of all frames, in an order of their own, each with slope and intercept."""
    out = header(SOPClassUID=ENHANCED_CT, NumberOfFrames=len(voxels))
    row, column, normal = rotation(seed)
    measures, plane, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = numbers([0.5, 0.75])
    plane.ImageOrientationPatient = numbers([*row, *column])
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([plane])
    out.SharedFunctionalGroupsSequence = Sequence([shared])
    order = np.random.default_rng(2).permutation(len(voxels))
    groups = []
    for k in order:
        position, values, frame = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = numbers(np.array([1.0, 2.0, 3.0]) + normal * 2.0 * k)
        values.RescaleSlope, values.RescaleIntercept = numbers([1.0 + 0.5 * (k % 2), -1000.0])
        frame.PlanePositionSequence = Sequence([position])
        frame.PixelValueTransformationSequence = Sequence([values])
        groups.append(frame)
    out.PerFrameFunctionalGroupsSequence = Sequence(groups)
    pixels_of(out, voxels[order])
    save(out, path)
    return path


def save(out: Dataset, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(path, out, enforce_file_format=True)
