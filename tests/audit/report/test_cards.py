"""The cards: filled from the run, with the text of others inert."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastgan.audit.report.cards import dataset_card, inert, model_card
from fastgan.audit.report.croissant import croissant, tables_of
from fastgan.audit.report.fact import Fact, Facts
from fastgan.audit.report.record import record_of
from fastgan.audit.run import Audit
from tests.audit.report.conftest import FINDING

FACTS = Facts(
    "demo",
    (Fact("objective", "wgan-gp", "the run"),),
    (Fact("source", "lidc-nodules", "the run"),),
    "LIDC-IDRI, CC BY 3.0",
)


def test_cards_are_filled_from_the_run(found) -> None:
    record = record_of(found)
    card = model_card(record, FACTS)
    assert "| objective | wgan-gp | the run |" in card
    assert "6 training volumes of 3 subjects" in card
    assert inert(FINDING.accepted.sentence) in card and "CC BY 3.0" in card
    card = dataset_card(record, FACTS)
    assert "4 generated volumes (benign 2, malignant 2)" in card
    assert "| source | lidc-nodules | the run |" in card


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<script>", "&lt;script>"),
        ("[click](https://x.y)", "\\[click](https&#58;//x.y)"),
        ("two\nlines\x1b[31m", "two lines \\[31m"),
        ("`*_\\", "\\`\\*\\_\\\\"),
        (7, "7"),
    ],
)
def test_text_of_others_is_inert_in_markdown(given, shown) -> None:
    assert inert(given) == shown


def test_cards_show_class_names_as_text(found) -> None:
    facts = replace(FACTS, name="a|b", model=(Fact("seed", "<b>1</b>", "nobody"),))
    evidence = replace(found.evidence, classes=("a|b", "![x](http://y)"))
    record = record_of(replace(found, evidence=evidence))
    for card in (model_card(record, facts), dataset_card(record, facts)):
        assert "a\\|b" in card and "a|b" not in card and "http://" not in card
        assert "<b>" not in card and "![x]" not in card


def test_croissant(found: Audit, tmp_path: Path) -> None:
    """The set as other catalogues read it: its tables by hash, its limits and its privacy."""
    record = record_of(found)
    (tmp_path / "manifest.csv").write_text("path,label\n")
    content = json.loads(croissant(record, FACTS, tables_of(tmp_path)))
    assert content["@type"] == "sc:Dataset"
    assert "http://mlcommons.org/croissant/RAI/1.0" in content["conformsTo"]
    (table,) = content["distribution"]
    assert table["sha256"] == hashlib.sha256(b"path,label\n").hexdigest()
    assert content["recordSet"][0]["field"][0]["source"]["extract"] == {"column": "path"}
    limits = [one for one in record.findings if one.verdict != "pass"]
    assert len(content["rai:dataLimitations"]) == max(1, len(limits))
    assert content["rai:personalSensitiveInformation"] and content["rai:dataBiases"]
    assert "recordSet" not in json.loads(croissant(record, FACTS, tables_of(None)))
