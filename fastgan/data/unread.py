"""What files are that hold no volume this package reads."""

from __future__ import annotations

from pathlib import Path

from fastgan.data.formats.dicom_header import is_dicom

__all__ = ["kind_of"]

KINDS = {
    "pictures": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".svg", ".webp"),
    "tables": (".csv", ".tsv", ".xls", ".xlsx", ".ods", ".parquet"),
    "texts": (".txt", ".md", ".rst", ".pdf", ".doc", ".docx", ".html", ".log", ".xml", ".yaml"),
    "JSON files": (".json",),
    "directions of diffusion": (".bval", ".bvec"),
    "surfaces": (".gii", ".gii.gz", ".stl", ".vtk", ".ply", ".obj"),
    "streamlines": (".tck", ".trk"),
    "transforms": (".mat", ".xfm", ".lta", ".h5", ".tfm"),
    "archives": (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"),
    "pickles or weights": (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".safetensors"),
    "MINC": (".mnc", ".mnc.gz"),
    "AFNI": (".brik", ".brik.gz", ".head"),
    "Philips PAR/REC": (".par", ".rec"),
    "ECAT": (".v",),
    "programs": (".py", ".m", ".sh", ".ipynb", ".r"),
}
ADVICE = {
    "archives": "unpack them",
    "MINC": "convert by mnc2nii",
    "AFNI": "convert by 3dAFNItoNIFTI",
    "Philips PAR/REC": "convert by dcm2niix",
    "ECAT": "convert to NIfTI",
}


def kind_of(path: Path) -> str | None:
    """In words, with the suffix and what to do; None of DICOM, which its content tells."""
    name = path.name.lower()
    if name == "dicomdir":
        return "DICOMDIR, which is not followed"
    for kind, suffixes in KINDS.items():
        found = next((s for s in suffixes if name.endswith(s)), None)
        if found is not None:
            advice = f"; {ADVICE[kind]}" if kind in ADVICE else ""
            return f"{kind} ({found}{advice})"
    if is_dicom(path):
        return None
    return f"unknown files ({path.suffix.lower() or 'no suffix'})"
