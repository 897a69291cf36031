"""report.json and report.html: complete, self-contained, without patients unless asked for."""

from __future__ import annotations

import hashlib
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Figure, Finding, Outcome, Table, settle
from fastgan.audit.report.cards import Fact, Facts, dataset_card, inert, model_card
from fastgan.audit.report.croissant import croissant, tables_of
from fastgan.audit.report.montage import SHOWN, _chosen, _picture, montage
from fastgan.audit.report.page import measured, p_value, page
from fastgan.audit.report.record import SCHEMA, Record, record_of, schema
from fastgan.audit.run import Audit
from fastgan.pictures.html import number
from fastgan.pictures.slices import read_png
from tests.browser import CHROMIUM, look
from tests.conftest import NO_BROWSER

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
FACTS = Facts(
    "demo",
    (Fact("objective", "wgan-gp", "the run"),),
    (Fact("source", "lidc-nodules", "the run"),),
    "LIDC-IDRI, CC BY 3.0",
)


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
    evidence = replace(found.evidence, classes=("gutartig, klein", "bösartig"))
    path.write_bytes(record_of(replace(found, evidence=evidence)).as_json())
    assert "bösartig" in path.read_text(encoding="utf-8")
    content = json.loads(path.read_bytes())
    assert path.read_text().startswith('{\n "about": {\n  "run": "00000-demo"')
    assert content["schema"] == SCHEMA and content["verdict"] == "pass"
    (finding,) = content["findings"]
    assert finding["value"] == 0.8125 and finding["p_adjusted"] == 0.4
    assert finding["interval"] == [0.7, None]
    assert finding["controls"][0]["runs"] == 300
    assert [c["subjects"] for c in content["cohorts"]] == [3, 2, 2]
    assert content["seconds"] == {"memorization": 1.2}
    assert content["shape"] == [2, 3, 4] and content["spacing"] == [1.5, 1.5, 2.0]
    assert content["cohorts"][0]["classes"] == {"gutartig, klein": 3, "bösartig": 3}
    assert "LIDC-0001" not in path.read_text()


def test_json_reads_back_into_the_record(found, tmp_path: Path) -> None:
    record = record_of(found)
    path = tmp_path / "report.json"
    path.write_bytes(record.as_json())
    again = Record.read(path)
    assert again.as_json() == record.as_json()
    assert again.findings[0].interval == (0.7, None)


def test_schema_is_the_published_one() -> None:
    published = Path(__file__).parents[3] / "docs" / "audit" / "report.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(schema()))


def test_page_is_self_contained_and_well_formed(found) -> None:
    text = page(record_of(found), found.settled)
    reader = read(text)
    assert "script" not in reader.tags
    for reference in reader.references:
        assert reference.startswith("data:") or reference[1:] in reader.ids, reference
    assert not re.search(r"https?://|@import|url\(", text)
    assert "&lt;of 4&gt;" in text and "<of 4>" not in text


def test_page_answers_first_and_holds_all_numbers(found) -> None:
    text = page(record_of(found), found.settled)
    first = text[: text.index('id="reading"')]
    for part in ("May we use it?", "Yes, for what is said below", "For what?", "What is unknown?"):
        assert part in first, part
    assert (
        "4 generated volumes, held against 6 training volumes of 3 patients" in first
        and ">pass</span> 1" in first
    )
    for part in (FINDING.question, "0.812 (95 % interval 0.7 to –)", "0.79", FINDING.power):
        assert part in text, part
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


def verdicts(found: Audit, *said: str) -> Audit:
    """The audit with one finding for each verdict."""
    names = ("memorization", "labels", "shortcuts", "quality")
    made = []
    for i, verdict in enumerate(said):
        name = names[i * len(names) // len(said)]
        question = f"Question {i}?"
        outcome = Outcome(verdict, f"Sentence {i}.")
        made.append(Finding(name, f"{name}.q{i}", question, outcome, by_construction="all is seen"))
    return replace(found, settled=tuple(settle(made, alpha=0.05)))


@pytest.mark.parametrize(
    ("said", "answer", "first"),
    [
        (("pass", "not asked"), "Yes, for what is said below: no judgement failed", []),
        (("pass", "warn"), "by those who know the warnings", ["Question 1?"]),
        (
            ("cannot tell", "pass", "warn"),
            "Not on this report alone",
            ["Question 0?", "Question 2?"],
        ),
        (
            ("warn", "cannot tell", "fail", "warn", "fail"),
            "No, not before what failed is resolved",
            ["Question 2?", "Question 4?", "Question 1?"],
        ),
    ],
)
def test_the_first_screen_answers_and_names_the_worst_first(found, said, answer, first) -> None:
    audit = verdicts(found, *said)
    text = page(record_of(audit), audit.settled)
    screen = text[: text.index('id="reading"')]
    assert answer in screen
    listed = screen[screen.index("To know first") :] if first else ""
    assert re.findall(r"Question \d\?", listed) == first
    unknown = screen[screen.index("What is unknown?") : screen.index("<dt>Verdicts")]
    untold = [f"Question {i}?" for i, verdict in enumerate(said) if verdict == "cannot tell"]
    assert re.findall(r"Question \d\?", unknown) == untold
    assert ("1 question</a>" in unknown) == ("not asked" in said)
    for verdict in set(said):
        assert f">{verdict}</span> {said.count(verdict)}" in screen


def test_every_question_is_in_the_contents_and_every_link_lands(found) -> None:
    audit = verdicts(found, "pass", "warn", "cannot tell", "fail", "not asked")
    text = page(record_of(audit), audit.settled)
    contents = text[text.index("<nav") : text.index("</nav>")]
    for one in audit.settled:
        assert f'href="#{one.finding.key}"' in contents and one.finding.question in contents
    reader = read(text)
    links = [r[1:] for r in reader.references if r.startswith("#")]
    assert len(links) > 15 and set(links) <= reader.ids


def test_the_montage_shows_patients_by_the_rule(found) -> None:
    shown = montage(found.evidence, found.options)
    assert [(f.title, f.patient) for f in shown] == [("Generated", False), ("Held-out", True)]
    text = page(record_of(found), found.settled, montage=shown)
    assert 'alt="Generated"' in text and 'alt="Held-out"' not in text
    assert "2 pictures of patients are left out" in text
    text = page(record_of(found, patient=True), found.settled, montage=shown, patient=True)
    assert 'alt="Generated"' in text and 'alt="Held-out"' in text
    translated = replace(found.evidence, translate=lambda volumes: volumes)
    assert [f.patient for f in montage(translated, found.options)] == [True, True]


def test_the_montage_draws_subjects_once_and_classes_in_turn() -> None:
    values = np.linspace(-1, 1, 40, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 5, 6))
    names = np.array([f"p{i // 2}" for i in range(40)])
    cohort = Cohort("held-out", values.astype(np.float32), names, np.arange(40) // 30)
    chosen = _chosen(cohort, np.random.default_rng(0))
    assert len(chosen) == SHOWN and len(set(names[chosen])) == SHOWN
    assert np.count_nonzero(cohort.labels[chosen] == 1) == SHOWN // 2
    few = _chosen(cohort.subset(np.arange(3)), np.random.default_rng(0))
    assert len(few) == 2


def test_the_montage_is_drawn_in_grey_values(tmp_path) -> None:
    steps = np.array([-3.0, -1.0, 0.0, 1.0, 3.0], np.float32)
    volume = np.full((5, 5, 5), -1.0, np.float32)
    volume[2] = steps  # the middle slice; one row of it is the five steps
    assert _picture(volume, masks=False)[0].tolist() == [0, 0, 128, 255, 255]
    mask = np.full((5, 5, 5), -1.0, np.float32)
    assert not _picture(mask, masks=True).any()
    mask[2:, 1:4, 1:4] = 1.0
    drawn = _picture(mask, masks=True)
    assert drawn[2, 2] > 100 and drawn[0].max() == 0
    many = np.stack([volume] * 3)
    evidence = Evidence(
        Cohort("training", many, np.array(["a", "b", "c"])),
        Cohort("held-out", many, np.array(["d", "e", "e"])),
        None,
        (1.0,) * 3,
    )
    (row,) = montage(evidence, Options())
    (tmp_path / "row.png").write_bytes(row.png)
    picture, _ = read_png(tmp_path / "row.png")
    # Two subjects, 5 pixels each, 2 between, every pixel 20 wide to be 96 at least.
    assert picture.shape == (100, 20 * 12) and row.title == "Held-out"
    alone = evidence.holdout.subset(np.array([0]))
    (one,) = montage(replace(evidence, holdout=alone), Options())
    (tmp_path / "one.png").write_bytes(one.png)
    assert read_png(tmp_path / "one.png")[0].shape == (100, 100)
    assert picture[0, ::20].tolist() == [0, 0, 128, 255, 255, 0, 0, 0, 0, 128, 255, 255]


def words_before_methods(text: str) -> int:
    body = text[text.index("<body>") : text.index('id="methods"')]
    return len(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def long_finding(i: int) -> Finding:
    name = ("memorization", "labels", "leakage", "shortcuts", "quality")[i // 5]
    return replace(
        FINDING,
        judgement=name,
        key=f"{name}.q{i}",
        question="Is any of these volumes like what " * 2 + "it should be?",
        accepted=Outcome("pass", " ".join(["No evidence of it found among 300 volumes"] * 4) + "."),
        power="one fault of 0.1 with a power of at least 0.98; of 0.2: 0.99; of 0.3: 1.00",
        limits="What this does not say is said at length. " * 5,
        methods="How it was computed. " * 30,
        p=None,
    )


def test_a_long_audit_has_at_most_2500_words_before_the_methods(found) -> None:
    audit = replace(found, settled=tuple(settle([long_finding(i) for i in range(22)], alpha=0.05)))
    text = page(record_of(audit), audit.settled)
    assert 1500 < words_before_methods(text) <= 2500


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_in_a_browser_nothing_overflows_fails_is_lost_or_fetched(found, tmp_path) -> None:
    long = "a-very-long-name-without-any-space" * 4
    wide = Table(long, (long, *("column",) * 9), ((long, *(1234567.89,) * 9),), long)
    control = Control(long, "found", 0.98, (0.95, 1.0), 300, held=True)
    first = replace(
        FINDING,
        question=f"{long}?",
        accepted=Outcome("warn", f"{long} {long}."),
        tables=(wide, *FINDING.tables),
        figures=(Figure("Power", long, montage(found.evidence, found.options)[0].png),),
        controls=(control, *FINDING.controls),
        power=long,
    )
    evidence = replace(found.evidence, classes=(long, "b"), about={"data": long})
    others = [long_finding(i) for i in range(20)]
    others = [replace(f, figures=()) for f in others]
    audit = replace(found, evidence=evidence, settled=tuple(settle([first, *others], alpha=0.05)))
    shown = montage(evidence, audit.options)
    text = page(record_of(audit, patient=True), audit.settled, montage=shown, patient=True)
    saw, said = look(text, tmp_path)
    for one in saw:
        assert one["overflow"] <= 0 and one["wide"] == [], one
        assert one["images"] == 3 and one["broken"] == 0 and one["fetched"] == []
        assert one["links"] > 60 and one["lost"] == []
    assert "CONSOLE" not in said


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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0004, "0.0004"),
        (0.0312, "0.03"),
        (0.1, "0.10"),
        (0.2, "0.20"),
        (1.0, "1.00"),
    ],
)
def test_p_values(value, text) -> None:
    assert p_value(value) == text


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.125, "share of patients", "12.5 %"),
        (0.125, "AUC of size", "0.125"),
        (None, "share of patients", "–"),
        (0.0, "share", "0 %"),
    ],
)
def test_values_in_the_unit_of_their_name(value, name, text) -> None:
    assert measured(value, name) == text


def test_what_a_finding_leaves_out_is_nothing() -> None:
    bare = Finding("a", "a.b", "?", Outcome("warn", "Look."))
    (record,) = record_of(
        Audit(
            Evidence(*(Cohort(n, np.zeros((2, 2, 2, 2)), np.array(["a", "b"])) for n in "th"), None,
                     (1.0,) * 3),
            Options(), tuple(settle([bare], alpha=0.05)), {}, {},
        )
    ).findings  # fmt: skip
    assert (record.n_volumes, record.n_subjects, record.power) == (0, 0, "")
    assert (record.value, record.interval, record.floor, record.p) == (None,) * 4
    assert (record.controls, record.tables, record.methods, record.limits) == ((), (), "", "")
    assert not Table("t", (), ()).patient and not Figure("f", "c", b"").patient
    assert Control("c", "found", 1.0, (1.0, 1.0), 1, held=True).decisive


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
