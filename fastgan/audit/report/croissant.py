"""The generated volumes as a Croissant data set, with its fields on responsible use (RAI)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastgan.audit.report.fact import Facts
from fastgan.audit.report.record import FindingRecord, Record
from fastgan.guarded import read_plain

__all__ = ["croissant", "tables_of"]

LONGEST = 256 << 20
"""Bytes of a table."""

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that Croissant 1.0 prescribes."""
COLUMNS = ("path", "label", "subject", "split", "modality")
OF_BIAS = ("shortcuts", "sites", "labels")
OF_PRIVACY = ("memorization", "membership", "leakage")
NO_PERSON = "Made by a generative network; no volume is an image of a person."


def croissant(record: Record, facts: Facts, files: Mapping[str, bytes]) -> str:
    """JSON-LD by Croissant 1.0 and its RAI vocabulary 1.0.

    Args:
        record: of the audit, without patients.
        facts: as the cards have them.
        files: name and content of the generated set's tables, manifest.csv and passport.json.
    """
    known = {fact.what: fact.value for fact in facts.data}
    content: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": f"generated volumes of {facts.name}",
        "description": f"{NO_PERSON} Audited: {record.verdict}. {' '.join(record.statements)}",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.0",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "datePublished": record.created[:10],
        "version": "1.0.0",
        "creator": {"@type": "Organization", "name": "whoever ran fastgan"},
        "license": "not known",
        "url": "not known",
        "distribution": [_file(name, text) for name, text in sorted(files.items())],
        "rai:dataCollection": f"{NO_PERSON} The network was trained on: {known.get('source', '?')}",
        "rai:dataCollectionType": ["Others"],
        "rai:dataManipulationProtocol": (
            f"{record.software}, {', '.join(f'{k} {v}' for k, v in record.about.items())}"
        ),
        "rai:dataUseCases": f"The audit's verdict is {record.verdict}. {record.statements[0]}",
        "rai:dataLimitations": _said([f for f in record.findings if f.verdict != "pass"]),
        "rai:dataBiases": _said([f for f in record.findings if f.judgement in OF_BIAS]),
        "rai:personalSensitiveInformation": _said(
            [f for f in record.findings if f.judgement in OF_PRIVACY]
        ),
    }
    if facts.attribution:
        content["citeAs"] = facts.attribution
    if "manifest.csv" in files:
        content["recordSet"] = [_records()]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def tables_of(generated: Path | None) -> dict[str, bytes]:
    """Name and content of the tables of a set that there are.

    Args:
        generated: folder, or manifest.csv, of the volumes.

    Raises:
        BadFile and its kinds: one cannot be read.
    """
    if generated is None:
        return {}
    folder = generated if generated.is_dir() else generated.parent
    names = ("manifest.csv", "passport.json")
    return {name: read_plain(folder / name, LONGEST) for name in names if (folder / name).is_file()}


def _file(name: str, content: bytes) -> dict[str, Any]:
    kind = "text/csv" if name.endswith(".csv") else "application/json"
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": kind,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _records() -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"volumes/{column}",
            "name": column,
            "dataType": "sc:Text",
            "source": {"fileObject": {"@id": "manifest.csv"}, "extract": {"column": column}},
        }
        for column in COLUMNS
    ]
    return {"@type": "cr:RecordSet", "@id": "volumes", "name": "volumes", "field": fields}


def _said(findings: Sequence[FindingRecord]) -> list[str]:
    return [f"{one.verdict}: {one.sentence}" for one in findings] or ["nothing was asked"]
