from __future__ import annotations

from dataclasses import replace

import pytest

from fastgan.audit.judgement import Control, Finding, Outcome, Question, answer, settle
from fastgan.errors import AuditError

GOOD = Outcome("pass", "No evidence of copies found.")
BAD = Outcome("fail", "Copies found.")
PLANTED = Control("copy, noise 0.1", "found", 0.98, (0.95, 1.0), 300, held=True)


def finding(key: str = "memorization.copies", **changes) -> Finding:
    base = Finding("memorization", key, "Any copies?", GOOD, BAD, p=0.5, power="0.98 at noise 0.1")
    return replace(base, **changes)


def one(**changes):
    (settled,) = settle([finding(**changes)], alpha=0.05)
    return settled


def test_a_rejection_takes_the_rejected_outcome() -> None:
    assert (one(p=0.01).verdict, one(p=0.01).sentence) == ("fail", "Copies found.")
    assert one(p=0.06).verdict == "pass"
    assert one(p=0.05).verdict == "fail"


def test_holm_runs_over_all_p_values_of_the_audit() -> None:
    found = settle([finding("a", p=0.03), finding("b", p=0.02), finding("c", p=None)], alpha=0.05)
    assert [s.p_adjusted for s in found] == pytest.approx([0.04, 0.04, None])
    assert [s.verdict for s in found] == ["fail", "fail", "pass"]
    found = settle([finding("a", p=0.03), finding("b", p=0.03)], alpha=0.05)
    assert [s.verdict for s in found] == ["pass", "pass"]


def test_a_pass_needs_its_decisive_controls() -> None:
    assert one(controls=(PLANTED,)).verdict == "pass"
    missed = replace(PLANTED, rate=0.4, held=False)
    settled = one(controls=(PLANTED, missed))
    assert settled.verdict == "cannot tell"
    assert "copy, noise 0.1" in settled.sentence and "40% of 300" in settled.sentence
    assert one(controls=(replace(missed, decisive=False),)).verdict == "pass"


def test_a_quiet_control_that_alarms_takes_the_pass_away() -> None:
    noisy = Control("held-out volumes", "quiet", 0.3, (0.2, 0.4), 100, held=False)
    assert "raised an alarm in 30%" in one(controls=(noisy,)).sentence


def test_controls_never_soften_a_failure() -> None:
    missed = replace(PLANTED, held=False)
    assert one(p=0.001, controls=(missed,)).verdict == "fail"


def test_nothing_passes_with_its_power_unmeasured() -> None:
    settled = one(power="")
    assert settled.verdict == "cannot tell" and "Power unmeasured" in settled.sentence
    assert one(power="", p=0.001).verdict == "fail"
    warn = Outcome("warn", "Volume alone tells the classes apart.")
    assert one(power="", accepted=warn).verdict == "warn"


def test_rejects_contradictions() -> None:
    with pytest.raises(ValueError, match="keys must be unique"):
        settle([finding("a"), finding("a")], alpha=0.05)
    with pytest.raises(ValueError, match="no outcome for a rejection"):
        settle([finding(rejected=None)], alpha=0.05)


KNOWN = Question("sites", "sites.known", "Do sites differ?")
UNKNOWN = Question("sites", "sites.unknown", "Do scanners differ?")


def few(*_: object) -> Finding:
    raise AuditError("needs 10 subjects, got 3")


def test_a_question_that_the_data_do_not_allow_says_why_and_the_others_go_on() -> None:
    parts = ((UNKNOWN, few), (KNOWN, lambda *_: Finding(*KNOWN, GOOD)))
    untold, told = answer(parts, None, None)
    assert (untold.judgement, untold.key, untold.question) == UNKNOWN
    assert untold.accepted == Outcome("cannot tell", "Cannot tell: needs 10 subjects, got 3.")
    assert told == Finding("sites", "sites.known", "Do sites differ?", GOOD)
    assert answer(parts, None, None, one_at_least=True) == [untold, told]


def test_a_part_may_answer_more_than_its_question() -> None:
    both = [Finding(*KNOWN, GOOD), Finding(*UNKNOWN, BAD)]
    assert answer([(KNOWN, lambda *_: both)], None, None) == both


def test_a_wing_without_a_single_answer_may_give_its_reasons_once() -> None:
    parts = ((KNOWN, few), (UNKNOWN, few))
    assert len(answer(parts, None, None)) == 2
    with pytest.raises(AuditError, match=r"^needs 10 subjects, got 3$"):
        answer(parts, None, None, one_at_least=True)
