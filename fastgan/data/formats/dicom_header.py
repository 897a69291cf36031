"""What one DICOM file says of itself, checked before its pixels are looked at."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.data.formats.extras import library, quiet
from fastgan.data.stream import open_regular
from fastgan.errors import BadFile, CorruptFile, FastganError, UnsafeFile

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Frame", "Slice", "is_dicom", "read_slice"]

MARK = b"DICM"
PREAMBLE = 128
PROGRAMS = (b"MZ", b"\x7fELF", b"#!")  # a preamble can make the file a program as well
DEFLATED = "1.2.840.10008.1.2.1.99"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"  # and what begins with it and a dot
MODALITIES = {"CT": "ct", "MR": "mr"}
NOT_INTENSITIES = ("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "PR", "SR", "OT", "SC", "US", "ES", "XC")
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """One slice of pixels: where it lies, and what its numbers mean.

    Attributes:
        position: mm of the first pixel's centre, to the patient's left, back and head; or None.
        orientation: direction of a row and of a column, three numbers each; or None.
        spacing: mm between rows and between columns; or None.
        slope, intercept: value = slope * stored + intercept.
    """

    position: Numbers | None
    orientation: Numbers | None
    spacing: Numbers | None
    slope: float
    intercept: float


@dataclass(frozen=True)
class Slice:
    """One file: a slice of a series, or several frames.

    Attributes:
        path: of the file.
        series: SeriesInstanceUID.
        about: number and description of the series, for messages.
        kind: why it holds no image, such as "RTSTRUCT"; "" of an image.
        fault: why the image is not read, with what to do; "" where it can be.
        modality: "ct", "mr" or None.
        subject: a hash of the patient's identifier, never the identifier; "" without one.
        scanner: manufacturer and model.
        rows, columns: pixels.
        bytes_each: of a stored number.
        compressed: name of a compressed transfer syntax; "".
        frames: one, or as many as the file has.
    """

    path: Path
    series: str
    about: str
    kind: str
    fault: str
    modality: str | None
    subject: str
    scanner: str
    rows: int
    columns: int
    bytes_each: int
    compressed: str
    frames: tuple[Frame, ...]


def is_dicom(path: Path) -> bool:
    """Whether a regular file has DICOM's mark; False also where it cannot be opened."""
    try:
        with open_regular(path) as file:
            return file.read(PREAMBLE + 4)[PREAMBLE:] == MARK
    except FastganError:
        return False


def read_slice(path: Path) -> Slice:
    """The header of a file, read once as long as the file stays what it is.

    Raises:
        BadFile: pydicom is missing, or no DICOM.
        CorruptFile: damaged.
        UnsafeFile: no regular file, or a program as well.
    """
    facts = os.stat(path, follow_symlinks=False)
    return _read(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _read(path: Path, size: int, time: int) -> Slice:
    library("pydicom", "dicom", path)
    from pydicom import dcmread
    from pydicom.filereader import read_partial

    with open_regular(path) as file:
        start = file.read(PREAMBLE + 4)
        if start[PREAMBLE:] != MARK:
            raise BadFile(
                f"{path}: no DICOM (its mark is missing at byte 128); rewrite it by dcmconv"
            )
        if start.startswith(PROGRAMS):
            raise UnsafeFile(f"{path}: its preamble makes it a program as well; do not run it")
        try:
            with quiet("pydicom"):
                file.seek(0)
                # Deflated headers unpack to any size: only the part before them is read.
                meta = read_partial(file, lambda tag, *_: tag >= 0x00030000).file_meta
                if meta.get("TransferSyntaxUID") == DEFLATED:
                    raise BadFile(
                        f"{path}: deflated transfer syntax is not read; unpack it by dcmconv +te"
                    )
                file.seek(0)
                return _facts(path, size, dcmread(file, stop_before_pixels=True))
        except FastganError:
            raise
        except Exception as error:  # pydicom's parsers raise whatever a damaged byte leads to
            # Its words may quote the patient's name, so only the kind of error is passed on.
            kind = type(error).__name__
            raise CorruptFile(f"{path}: DICOM header damaged ({kind}); export it again") from None


def _facts(path: Path, size: int, header: Dataset) -> Slice:
    syntax = header.file_meta.TransferSyntaxUID
    uid, patient = str(header.get("SeriesInstanceUID", "")), str(header.get("PatientID", ""))
    number, text = header.get("SeriesNumber"), str(header.get("SeriesDescription", "")).strip()
    about = " ".join(part for part in (f"series {number}" if number else "", text) if part)
    maker = f"{header.get('Manufacturer', '')} {header.get('ManufacturerModelName', '')}"
    modality = str(header.get("Modality", ""))
    rows, columns = int(header.get("Rows", 0) or 0), int(header.get("Columns", 0) or 0)
    kind = "" if rows and columns and uid else modality or "no image"
    if not kind and not uid:
        kind = "no series"
    count = int(header.get("NumberOfFrames", 1) or 1)
    bits = int(header.get("BitsAllocated", 0) or 0)
    fault = "" if kind else _fault(header, modality, count)
    promised = rows * columns * count * max(bits // 8, 1)
    if not fault and not kind and not syntax.is_compressed and promised > size:
        raise CorruptFile(f"{path}: pixels: {promised} bytes promised, the file has {size}")
    frames = () if fault or kind or promised > 1 << 40 else _frames(header, count)
    return Slice(
        path=path,
        series=uid,
        about=about,
        kind=kind,
        fault=fault,
        modality=MODALITIES.get(modality),
        subject=hashlib.sha256(patient.encode()).hexdigest()[:12] if patient else "",
        scanner=" ".join(maker.split()),
        rows=rows,
        columns=columns,
        bytes_each=max(bits // 8, 1),
        compressed=str(syntax.name) if syntax.is_compressed else "",
        frames=frames,
    )


def _fault(header: Dataset, modality: str, count: int) -> str:
    """Why a file with pixels is no part of a volume of intensities, or ""."""
    kinds = [str(k).upper() for k in header.get("ImageType", None) or ()]
    sop = str(header.get("SOPClassUID", ""))
    photometric = str(header.get("PhotometricInterpretation", ""))
    if int(header.get("SamplesPerPixel", 1) or 1) != 1 or not photometric.startswith("MONO"):
        return f"colour ({photometric}) where one number per pixel is meant; leave it out"
    if sop == SECONDARY or sop.startswith(SECONDARY + "."):
        return "secondary capture, a screenshot without geometry; leave it out"
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        return "localizer, an overview of slices in several directions; leave it out"
    if modality in NOT_INTENSITIES:
        return f"modality {modality} is no CT or MR image; leave it out"
    if int(header.get("BitsAllocated", 0) or 0) not in (8, 16, 32):
        return f"{header.get('BitsAllocated')} bits a pixel are not read; leave it out"
    if count > 1 and "PerFrameFunctionalGroupsSequence" not in header:
        return f"{count} frames without a position each; convert it by dcm2niix"
    return ""


def _frames(header: Dataset, count: int) -> tuple[Frame, ...]:
    if "PerFrameFunctionalGroupsSequence" not in header:
        return (_frame(header, header, header, header),)
    shared = header.get("SharedFunctionalGroupsSequence") or [{}]
    frames = []
    for own in header.PerFrameFunctionalGroupsSequence:

        def group(name: str, own: Dataset = own) -> Dataset:
            sequence = own.get(name) or shared[0].get(name) or [{}]
            found: Dataset = sequence[0]
            return found

        frames.append(
            _frame(
                group("PlanePositionSequence"),
                group("PlaneOrientationSequence"),
                group("PixelMeasuresSequence"),
                group("PixelValueTransformationSequence"),
            )
        )
    if len(frames) != count:
        raise ValueError(f"{len(frames)} positions for {count} frames")
    return tuple(frames)


def _frame(position: Dataset, orientation: Dataset, measures: Dataset, values: Dataset) -> Frame:
    slope, intercept = values.get("RescaleSlope"), values.get("RescaleIntercept")
    return Frame(
        _numbers(position.get("ImagePositionPatient"), 3),
        _numbers(orientation.get("ImageOrientationPatient"), 6),
        _numbers(measures.get("PixelSpacing"), 2),
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
    )


def _numbers(values: object, count: int) -> Numbers | None:
    if values is None or isinstance(values, str) or not hasattr(values, "__iter__"):
        return None
    found = tuple(float(v) for v in values)
    return found if len(found) == count else None
