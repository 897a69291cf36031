"""What data.json must hold before anything is built from it; a folder may come from anybody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastgan.config import MOST_WIDTH
from fastgan.errors import CorruptFile

__all__ = ["require_record"]

Extent = Annotated[int, Field(ge=1, le=4096)]
Millimetres = Annotated[float, Field(gt=0.0, le=1000.0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Normalisation(BaseModel):
    model_config = ConfigDict(extra="allow")

    modality: Literal["ct", "mr", "map", "mask"]
    low: Finite
    high: Finite


class _Subjects(BaseModel):
    model_config = ConfigDict(extra="forbid")

    salt: str
    train: list[str]
    holdout: list[str]


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow")

    fingerprint: str
    shape: Annotated[list[Extent], Field(min_length=3, max_length=3)]
    spacing: Annotated[list[Millimetres], Field(min_length=3, max_length=3)]
    channels: Annotated[int, Field(ge=1, le=MOST_WIDTH)]
    classes: list[str]
    prior: list[Share]
    normalisation: _Normalisation
    subjects: list[_Subjects] = []
    b: _Record | None = None

    @model_validator(mode="after")
    def _shares_of_classes(self) -> _Record:
        if self.classes and (len(self.prior) != len(self.classes) or not sum(self.prior) > 0):
            raise ValueError("prior: one share for each class is meant")
        return self


def require_record(data: Mapping[str, Any], path: Path) -> None:
    """Refuse the content of a data.json that no training has written.

    Args:
        data: as read.
        path: of the file, for errors.

    Raises:
        CorruptFile: a key is missing, of the wrong kind or out of range; names it.
    """
    try:
        _Record.model_validate(dict(data), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        told = f"{key}: {first['msg']}" if key else str(first["msg"])
        raise CorruptFile(f"{path}: {told}, got {repr(first['input'])[:80]}") from None
