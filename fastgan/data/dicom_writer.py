"""A volume out as a DICOM series: marked synthetic, with UIDs of its own and nobody's identity."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from fastgan.data.formats.extras import library
from fastgan.data.formats.stored import LPS_TO_RAS
from fastgan.data.geometry import spacing_of
from fastgan.durable import put_file
from fastgan.errors import BadFile, ConfigError, NumericsError
from fastgan.guarded import system_error, typed

__all__ = ["MODALITIES", "save_series"]

MODALITIES = {
    "ct": ("CT", "1.2.840.10008.5.1.4.1.1.2"),
    "mr": ("MR", "1.2.840.10008.5.1.4.1.1.4"),
}
"""Modality -> DICOM's name and the storage class of its images; others have none of their own."""
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
STEPS = 32767
NOBODY = "synthetic"
"""Where DICOM wants a name that there is none of."""


@typed("the DICOM series")
def save_series(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    *,
    modality: str,
    subject: str,
    description: str,
) -> Path:
    """Write one file a slice; they are read back by `fastgan.data.read_volume(folder)`.

    CT is rounded to whole HU. MR is stored in 32,767 steps of its largest magnitude, which the
    rescale slope gives back. Every UID is 2.25 and a number made of the content and the subject,
    so equal volumes of equal origin have equal UIDs, and no others have.

    Args:
        folder: made; must not be there.
        array: [D, H, W] in right-anterior-superior order, two or more along W.
        affine: [4, 4] voxel index to mm, at right angles.
        modality: "ct" or "mr".
        subject: a name that stands for no person.
        description: of the series, 64 characters at most.

    Raises:
        ConfigError: a modality or shape that DICOM has no image for.
        NumericsError: NaN or infinite voxels.
        BadFile: pydicom is missing, the folder is there, or the disk refuses.
    """
    library("pydicom", "dicom", folder)
    if modality not in MODALITIES:
        raise ConfigError(f"DICOM has images of ct and mr, none of a {modality}; write NIfTI")
    if array.ndim != 3 or array.shape[2] < 2:
        raise ConfigError(f"DICOM: [D, H, W] of two slices or more is meant, got {array.shape}")
    if not np.isfinite(array).all():
        raise NumericsError(f"{folder}: array has NaN or infinite voxels; nothing written")
    stored, slope = _stored(array, modality)
    digest = hashlib.sha256(f"{subject}\n{modality}\n{stored.shape}".encode())
    digest.update(np.asarray(affine, "<f8").tobytes() + stored.tobytes())
    try:
        folder.mkdir()
    except OSError as error:
        raise system_error(folder, "make the folder", error) from error
    for k in range(stored.shape[2]):
        content = _slice(
            stored[:, :, k],
            LPS_TO_RAS @ np.asarray(affine, np.float64),
            k,
            digest.digest(),
            (modality, subject, description, slope),
        )
        put_file(folder / f"{k + 1:05d}.dcm", [content])
    return folder


def _stored(array: np.ndarray, modality: str) -> tuple[np.ndarray, float]:
    if modality == "ct":
        return np.clip(np.rint(array), -32768, 32767).astype("<i2"), 1.0
    largest = float(np.abs(array).max())
    # Of as many digits as a decimal string of 16 characters holds.
    slope = float(f"{largest / STEPS:.9e}") if largest > 0.0 else 1.0
    return np.clip(np.rint(array / slope), -STEPS, STEPS).astype("<i2"), slope


def _slice(
    pixels: np.ndarray,
    affine: np.ndarray,
    k: int,
    digest: bytes,
    about: tuple[str, str, str, float],
) -> bytes:
    """Bytes of a file; pixels are [columns, rows], affine to the left, back and head."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import UID

    modality, subject, description, slope = about
    name, storage = MODALITIES[modality]
    sizes = spacing_of(affine)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(storage)
    meta.MediaStorageSOPInstanceUID = UID(_uid(digest, f"slice {k}"))
    meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE)
    meta.ImplementationClassUID = UID(_uid(b"fastgan", "implementation"))
    data = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": storage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": _uid(digest, "study"),
        "SeriesInstanceUID": _uid(digest, "series"),
        "FrameOfReferenceUID": _uid(digest, "frame"),
        "SyntheticData": "YES",
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL" if modality == "ct" else "OTHER"],
        "Modality": name,
        "Manufacturer": "fastgan",
        "SeriesDescription": description[:64],
        "DerivationDescription": "made by a generative network; shows no person",
        "PatientName": NOBODY,
        "PatientID": subject[:64],
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "PositionReferenceIndicator": "",
        "PatientPosition": "HFS",
        "BurnedInAnnotation": "NO",
        "SeriesNumber": 1,
        "InstanceNumber": k + 1,
        "ImagePositionPatient": [_decimal(v) for v in affine[:3] @ [0.0, 0.0, k, 1.0]],
        "ImageOrientationPatient": [
            _decimal(v) for axis in (0, 1) for v in affine[:3, axis] / sizes[axis]
        ],
        "PixelSpacing": [_decimal(sizes[1]), _decimal(sizes[0])],
        "SliceThickness": _decimal(sizes[2]),
        "Rows": pixels.shape[1],
        "Columns": pixels.shape[0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleIntercept": "0",
        "RescaleSlope": _decimal(slope),
        "RescaleType": "HU" if modality == "ct" else "US",
    }
    if modality == "ct":
        values |= {"KVP": "", "AcquisitionNumber": ""}
    else:
        values |= {"ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": ""}
        values |= {"MRAcquisitionType": "3D", "EchoTime": "", "EchoTrainLength": ""}
    for key, value in values.items():
        setattr(data, key, value)
    data.PixelData = np.ascontiguousarray(pixels.T).tobytes()
    content = io.BytesIO()
    try:
        data.save_as(content, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadFile(f"DICOM: pydicom refuses what is to be written: {error}") from error
    return content.getvalue()


def _uid(digest: bytes, purpose: str) -> str:
    """2.25 and 128 bits of a hash: a UID that needs no registered root."""
    made = hashlib.sha256(digest + purpose.encode()).digest()[:16]
    return f"2.25.{int.from_bytes(made, 'big')}"


def _decimal(value: float) -> str:
    """A number in the 16 characters that DICOM's decimal string has."""
    value = float(value) + 0.0
    for digits in range(16, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return "0"
