"""report.json and report.html: complete, self-contained, without patients unless asked for."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Figure, Finding, Outcome, Table, settle
from fastgan.audit.report.page import dataset_card, model_card, page
from fastgan.audit.report.record import SCHEMA, Record, record_of, schema
from fastgan.audit.run import Audit
from fastgan.pictures.html import number

PNG = b"\x89PNG\r\n\x1a\nnot a picture"
FINDING = Finding(
    "memorization",
    "memorization.copies",
    "Is any generated volume a copy of a patient?",
    Outcome("pass", "No evidence of copies found among 4 volumes <of 4>."),
    Outcome("fail", "Copies found."),
    p=0.4,
    value=0.8125,
    value_name="smallest distance ratio",
    interval=(0.7, float("inf")),
    floor=0.79,
    n_volumes=4,
    n_subjects=3,
    power="one copy in 1,000 at noise 0.1 with power 0.98",
    controls=(Control("copy at noise 0.1", "found", 0.98, (0.95, 1.0), 300, held=True),),
    tables=(
        Table("Power", ("noise", "found"), ((0.1, 0.98), (0.5, float("nan")))),
        Table("Flagged", ("volume", "patient"), ((3, "LIDC-0001"),), patient=True),
    ),
    figures=(
        Figure("Power", "By noise.", PNG),
        Figure("Flagged pairs", "Beside the patient.", PNG + b"patient", patient=True),
    ),
    methods="r = d1 / mean(d2..d10).",
    limits="Nothing of rotated copies.",
)
FACTS = {
    "name": "demo",
    "model": {"objective": "wgan-gp"},
    "data": {"source": "lidc-nodules"},
    "attribution": "LIDC-IDRI, CC BY 3.0",
}


@pytest.fixture
def found() -> Audit:
    def cohort(name: str, count: int) -> Cohort:
        values = np.zeros((count, 2, 3, 4), np.float32)
        names = np.array([f"{name}-{i // 2}" for i in range(count)])
        return Cohort(name, values, names, np.arange(count) % 2)

    evidence = Evidence(
        cohort("training", 6),
        cohort("held-out", 4),
        cohort("generated", 4),
        spacing=(1.5, 1.5, 2.0),
        classes=("benign", "malignant"),
        augmentations=("flip",),
        about={"run": "00000-demo"},
    )
    settled = settle([FINDING], alpha=0.05)
    return Audit(evidence, Options(), tuple(settled), {"memorization": 1.23}, {})


class Reader(HTMLParser):
    """Collects what a page refers to and whether its elements close."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        for name, value in attributes:
            if name in ("src", "href"):
                self.references.append(value)
            if name == "id":
                self.ids.add(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_json_reads_back_and_holds_every_number(found, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(record_of(found).as_json())
    content = json.loads(path.read_bytes())
    assert content["schema"] == SCHEMA and content["verdict"] == "pass"
    (finding,) = content["findings"]
    assert finding["value"] == 0.8125 and finding["p_adjusted"] == 0.4
    assert finding["interval"] == [0.7, None]
    assert finding["controls"][0]["runs"] == 300
    assert [c["subjects"] for c in content["cohorts"]] == [3, 2, 2]
    assert content["cohorts"][0]["classes"] == {"benign": 3, "malignant": 3}
    assert "LIDC-0001" not in path.read_text()


def test_json_reads_back_into_the_record(found, tmp_path: Path) -> None:
    record = record_of(found)
    path = tmp_path / "report.json"
    path.write_bytes(record.as_json())
    again = Record.read(path)
    assert again.as_json() == record.as_json()
    assert again.findings[0].interval == (0.7, None)


def test_schema_is_the_published_one() -> None:
    published = Path(__file__).parents[2] / "docs" / "audit" / "report.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(schema()))


def test_page_is_self_contained_and_well_formed(found) -> None:
    text = page(record_of(found), found.settled)
    reader = read(text)
    assert "script" not in reader.tags and "link" not in reader.tags
    for reference in reader.references:
        assert reference.startswith("data:image/png;base64,") or reference[1:] in reader.ids
    assert not re.search(r"https?://|@import|url\(", text)
    assert "&lt;of 4&gt;" in text and "<of 4>" not in text


def test_page_puts_verdicts_first_with_all_columns(found) -> None:
    text = page(record_of(found), found.settled)
    table = text[text.index('class="verdicts"') : text.index("</table>")]
    for part in (FINDING.question, "pass", "0.812 (0.7 to –)", "0.79", FINDING.power):
        assert part in table, part
    for line in ("Research use only", "Not a privacy guarantee", FINDING.methods, FINDING.limits):
        assert line in text


def test_patients_appear_only_when_asked_for_and_marked(found) -> None:
    record, settled = record_of(found), found.settled
    text = page(record, settled)
    assert "Flagged pairs" not in text and "LIDC-0001" not in text
    assert "1 picture of patients is left out" in text and "CONTAINS PATIENT DATA" not in text
    text = page(record_of(found, patient=True), settled, patient=True)
    assert "Flagged pairs" in text and "LIDC-0001" in text and "CONTAINS PATIENT DATA" in text
    read(text)


def test_no_words_of_safety(found) -> None:
    text = page(record_of(found), found.settled).lower()
    text = text.replace("not a privacy guarantee", "")
    for word in ("anonymous", "private", " safe"):
        assert word not in text


def test_cards_are_filled_from_the_run(found) -> None:
    record = record_of(found)
    card = model_card(record, FACTS)
    assert "| objective | wgan-gp |" in card and "6 volumes of 3 subjects" in card
    assert FINDING.accepted.sentence in card and "CC BY 3.0" in card
    card = dataset_card(record, FACTS)
    assert "4 volumes (benign 2, malignant 2)" in card and "| source | lidc-nodules |" in card


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12345.6, "12,346"),
        (0.05, "0.05"),
        (-1.5, "-1.5"),
        (float("nan"), "–"),
        ("a", "a"),
    ],
)
def test_numbers(value, text) -> None:
    assert number(value) == text
