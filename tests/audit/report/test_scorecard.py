"""The scorecard: seven criteria that point to judgements and judge nothing themselves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fastgan.audit import run
from fastgan.audit.judgement import Finding, Outcome, settle
from fastgan.audit.report.cards import dataset_card, model_card
from fastgan.audit.report.fact import Facts
from fastgan.audit.report.page import page
from fastgan.audit.report.record import Record, record_of
from fastgan.audit.report.scorecard import CRITERIA, scorecard

AUDIT = Path(__file__).parents[3] / "fastgan" / "audit"
NAMES = [
    *("congruence", "coverage", "constraint", "completeness", "compliance", "comprehension"),
    "consistency",
]


def judged(**verdicts: str):
    """Settled findings: judgement__question=verdict."""
    made = []
    for name, verdict in verdicts.items():
        key = name.replace("__", ".")
        outcome = Outcome(verdict, f"Said {verdict}.")
        made.append(Finding(key.split(".")[0], key, f"{key}?", outcome, by_construction="all"))
    return tuple(settle(made, alpha=0.05))


def by_name(settled):
    return {one.name: one for one in scorecard(settled)}


def test_the_seven_criteria_in_their_order() -> None:
    assert [c.name for c in scorecard(())] == NAMES
    assert all(c.verdict is None and c.findings == () for c in scorecard(()))


def questions_of_the_audit() -> set[str]:
    """Keys of findings, read from the source of the wings."""
    keys = set()
    for wing in run.JUDGEMENTS:
        for path in (AUDIT / wing).rglob("*.py"):
            keys.update(re.findall(rf'"{wing}",\s*"({wing}\.\w+)"', path.read_text()))
    return keys | {"sites.hospital"}  # a column of the manifest names it


def test_every_question_has_one_criterion() -> None:
    keys = questions_of_the_audit()
    assert len(keys) >= 30 and {key.split(".")[0] for key in keys} == set(run.JUDGEMENTS)
    for key in keys:
        (settled,) = judged(**{key.replace(".", "__"): "pass"})
        pointing = [c.name for c in scorecard([settled]) if key in c.findings]
        assert len(pointing) == 1, key


def test_a_wing_that_was_refused_as_a_whole_stands_for_its_questions() -> None:
    found = by_name(judged(quality="cannot tell"))
    for name in ("congruence", "coverage", "completeness", "constraint"):
        assert found[name].verdict == "cannot tell" and found[name].findings == ("quality",)
    assert found["compliance"].verdict is None


@pytest.mark.parametrize(
    ("said", "worst"),
    [
        (("pass", "not asked"), "pass"),
        (("not asked", "not asked"), "not asked"),
        (("warn", "pass"), "warn"),
        (("cannot tell", "warn"), "cannot tell"),
        (("cannot tell", "fail"), "fail"),
    ],
)
def test_a_criterion_shows_the_worst_of_what_it_points_to(said, worst) -> None:
    found = by_name(judged(quality__distance=said[0], quality__spectrum=said[1]))
    assert found["congruence"].verdict == worst
    assert found["congruence"].findings == ("quality.distance", "quality.spectrum")


def test_what_no_judgement_says_is_left_to_the_owner() -> None:
    owners = {c.name for c in CRITERIA if c.owner}
    assert {"compliance", "comprehension", "completeness"} <= owners
    assert "licence" in by_name(())["compliance"].owner
    comprehension = by_name(judged(quality__distance="pass"))["comprehension"]
    assert comprehension.verdict is None and comprehension.findings == ()


def test_it_stands_in_report_and_cards_and_changes_no_verdict(found, tmp_path) -> None:
    settled = judged(memorization__copies="fail", quality__distance="warn", quality__kinds="pass")
    audit = replace(found, settled=settled)
    record = record_of(audit)
    assert (record.verdict, record.exit_code) == ("fail", 3)
    content = json.loads(record.as_json())
    assert [c["name"] for c in content["scorecard"]] == NAMES
    assert content["scorecard"][4]["verdict"] == "fail"
    assert content["scorecard"][5]["verdict"] is None
    text = page(record, settled)
    table = text[text.index('id="scorecard"') : text.index('id="terms"')]
    for name in NAMES:
        assert name.capitalize() in table
    assert 'href="#memorization.copies"' in table and 'href="#quality.distance"' in table
    assert "To be filled in by the owner" in table and "consent, licence" in table
    for card in (model_card(record, Facts("x", (), ())), dataset_card(record, Facts("x", (), ()))):
        assert "| compliance | " in card and "| fail | memorization.copies |" in card
        assert card.count("\n| ") >= 7


def test_a_report_without_one_is_still_read(found, tmp_path) -> None:
    content = json.loads(record_of(found).as_json())
    del content["scorecard"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    again = Record.read(tmp_path / "report.json")
    assert again.scorecard == () and again.verdict == "pass"
