"""report.html: complete, self-contained, without patients unless asked for."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from fastgan.audit.judgement import Control, Figure, Finding, Outcome, Table, settle
from fastgan.audit.report.montage import montage
from fastgan.audit.report.page import measured, p_value, page
from fastgan.audit.report.record import record_of
from fastgan.audit.run import Audit
from fastgan.pictures.html import number
from tests.audit.report.conftest import FINDING
from tests.browser import CHROMIUM, look
from tests.conftest import NO_BROWSER


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
