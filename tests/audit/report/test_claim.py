"""CLAIM 2024 in the model card: what is known is said, with its source; nothing is invented."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fastgan.audit.judgement import Finding, Outcome, settle
from fastgan.audit.report.cards import model_card
from fastgan.audit.report.claim import ITEMS, TO_FILL_IN, claim
from fastgan.audit.report.fact import NOBODY, NOT_KNOWN, Fact, Facts
from fastgan.audit.report.record import NAMELESS, record_of

RUN = "the run's configuration"
KNOWN = {
    "variant": "wgan_gp",
    "networks": "dcgan",
    "objective": "wasserstein",
    "penalty": "gradient, weight 10",
    "steps": "4000",
    "batch size": "16",
    "precision": "float32",
    "seed": "7",
    "augmentation": "flip",
}
FACTS = Facts(
    "demo",
    tuple(Fact(what, value, RUN) for what, value in KNOWN.items()),
    (Fact("source", "lidc-nodules", RUN), Fact("held out", "20% of the subjects", RUN)),
)
FOREIGN = Facts(
    "theirs",
    tuple(Fact(what, NOT_KNOWN, NOBODY) for what in KNOWN),
    (Fact("source", "manifest.csv", "whoever ordered this audit"),),
)
# Only authors know these, whatever was run.
AUTHORS = {*range(1, 7), 8, 11, 12, *range(14, 19), 21, 27, 31, 33, 34, 38, *range(42, 45)}


def answers(audit, facts):
    return {int(one.what.split(".")[0]): one for one in claim(record_of(audit), facts)}


def test_the_44_items_in_their_order(found) -> None:
    assert len(ITEMS) == 44
    rows = claim(record_of(found), FACTS)
    assert [row.what.split(".")[0] for row in rows] == [str(i) for i in range(1, 45)]
    assert rows[19].what == "20. Level at which partitions are disjoint"


def test_what_the_run_knows_is_said_with_its_source(found) -> None:
    said = answers(found, FACTS)
    assert said[7][1:] == ("source lidc-nodules", RUN)
    assert "dcgan" in said[22].value and "wgan_gp" in said[22].value
    assert "seed 7" in said[24].value and said[23].value.startswith("fastgan ")
    for value in ("wasserstein", "gradient, weight 10", "4000", "16", "float32", "flip"):
        assert value in said[25].value
    assert said[19].value == "held out 20% of the subjects"
    assert said[20].value.startswith("subject")
    assert "2 x 3 x 4 voxels of 1.5 x 1.5 x 2 mm" in said[9].value
    assert "4 volumes of 2 subjects" in said[32].value and said[32].by == "this audit"
    assert "training: 6 volumes of 3 subjects" in said[35].value
    assert "benign 3, malignant 3" in said[36].value
    assert "1 planted fault" in said[30].value and "1 held" in said[30].value


def test_what_only_authors_know_is_left_to_them(found) -> None:
    for facts in (FACTS, FOREIGN):
        said = answers(found, facts)
        for item in AUTHORS:
            assert said[item].value == TO_FILL_IN and said[item].by == "", item
    mixed = (13, 26, 35, 36)
    assert all(TO_FILL_IN in said[item].value for item in mixed)


def test_nothing_is_said_of_another_program(found) -> None:
    said = answers(found, FOREIGN)
    for item in (22, 24, 25, 26):
        assert said[item].value == TO_FILL_IN and said[item].by == "", item
    assert said[7].value == "source manifest.csv" and said[19].value == TO_FILL_IN


def test_subjects_without_names_and_quick_audits_are_told(found) -> None:
    record = record_of(found)
    nameless = replace(record, statements=(*record.statements, NAMELESS))
    said = {one.what.split(".")[0]: one for one in claim(nameless, FACTS)}
    assert said["20"].value.startswith("file")
    bare = Finding("quality", "quality.distance", "?", Outcome("warn", "Differs."))
    said = answers(replace(found, settled=tuple(settle([bare], alpha=0.05))), FACTS)
    assert said[30].value == "no fault was planted"
    assert "quality.distance" in said[39].value


@pytest.mark.parametrize("facts", [FACTS, FOREIGN, Facts("none", (), ())])
def test_it_stands_in_the_card_and_its_text_is_inert(found, facts) -> None:
    facts = replace(facts, data=(Fact("source", "a|b <i>", RUN),))
    card = model_card(record_of(found), facts)
    section = card[card.index("CLAIM 2024") :]
    assert len(re.findall(r"^\| \d+\. ", section, re.M)) == 44
    assert "a\\|b &lt;i>" in section and "a|b" not in section
