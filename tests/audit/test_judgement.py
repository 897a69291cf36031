from __future__ import annotations

from dataclasses import replace

import pytest

from fastgan.audit.judgement import (
    Control,
    Finding,
    Outcome,
    Question,
    answer,
    cannot_tell,
    not_asked,
    settle,
)
from fastgan.errors import AuditError, NotAsked

GOOD = Outcome("pass", "No evidence of copies found.")
BAD = Outcome("fail", "Copies found.")
PLANTED = Control("copy, noise 0.1", "found", 0.98, (0.95, 1.0), 300, held=True)


def finding(key: str = "memorization.copies", **changes) -> Finding:
    base = Finding("memorization", key, "Any copies?", GOOD, BAD, p=0.5, controls=(PLANTED,))
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
    assert one(controls=(PLANTED, replace(missed, decisive=False))).verdict == "pass"


NOISY = Control("held-out volumes", "quiet", 0.3, (0.2, 0.4), 100, held=False)


@pytest.mark.parametrize("p", [0.5, 0.001])
def test_a_test_that_alarms_where_there_is_no_fault_neither_acquits_nor_condemns(p) -> None:
    settled = one(p=p, controls=(PLANTED, NOISY))
    assert settled.verdict == "cannot tell"
    assert "raised an alarm in 30% of 100 runs" in settled.sentence and "Next: " in settled.sentence
    assert ("it said: Copies found." in settled.sentence) == (p < 0.05)
    assert one(p=p, controls=(PLANTED, replace(NOISY, held=True))).verdict != "cannot tell"
    assert one(p=p, controls=(PLANTED, replace(NOISY, decisive=False))).verdict != "cannot tell"


def test_it_does_not_warn_either() -> None:
    warn = Outcome("warn", "Volume alone tells the classes apart.")
    assert one(accepted=warn, controls=(NOISY,)).verdict == "cannot tell"
    assert one(accepted=warn, controls=(replace(NOISY, held=True),)).verdict == "warn"


def test_a_missed_fault_never_softens_a_failure() -> None:
    missed = replace(PLANTED, held=False)
    assert one(p=0.001, controls=(missed,)).verdict == "fail"


def test_nothing_passes_with_its_power_unmeasured() -> None:
    settled = one(controls=())
    assert settled.verdict == "cannot tell" and "no fault was planted" in settled.sentence
    assert one(controls=(), power="0.98").verdict == "cannot tell"
    assert one(controls=(replace(PLANTED, decisive=False),)).verdict == "cannot tell"
    assert one(controls=(), by_construction="every name is compared").verdict == "pass"
    assert one(controls=(), p=0.001).verdict == "fail"
    warn = Outcome("warn", "Volume alone tells the classes apart.")
    assert one(controls=(), accepted=warn).verdict == "warn"


@pytest.mark.parametrize(
    ("rate", "subjects", "then"),
    [
        # z(1 - .05 / 20) = 2.81; (2.81 + .84)^2 / (2.81 + z(rate))^2 times as many
        (0.5, 100, "about 170 subjects instead of 100"),
        (0.7, 1000, "about 1,200 subjects instead of 1,000"),
        (0.2, 100, "about 350 subjects instead of 100"),
        (0.05, 100, "more than 5 times as many subjects"),
        (0.0, 100, "more than 5 times as many subjects"),
        (0.5, 0, "about 1.7 times as many subjects"),
        (0.85, 100, "plant more runs"),
    ],
)
def test_a_missed_fault_says_what_would_help(rate, subjects, then) -> None:
    missed = replace(PLANTED, rate=rate, held=False)
    assert then in one(controls=(missed,), n_subjects=subjects).sentence


def test_what_cannot_be_told_or_was_not_asked_stays_so() -> None:
    for outcome in (cannot_tell("three patients"), not_asked("one site")):
        settled = one(accepted=outcome, p=None, controls=(NOISY,))
        assert (settled.verdict, settled.sentence) == (outcome.verdict, outcome.sentence)
    assert cannot_tell("few", "ten more").sentence == "Cannot tell: few. Next: ten more."
    assert not_asked("one site").sentence == "Not asked: one site."


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


def inapplicable(*_: object) -> Finding:
    raise NotAsked("all volumes are of one site")


def test_a_question_that_does_not_apply_is_not_asked() -> None:
    (one_site,) = answer([(KNOWN, inapplicable)], None, None)
    assert one_site.accepted == Outcome("not asked", "Not asked: all volumes are of one site.")
    both = ((KNOWN, inapplicable), (UNKNOWN, few))
    assert [f.accepted.verdict for f in answer(both, None, None)] == ["not asked", "cannot tell"]
    with pytest.raises(NotAsked, match="one site"):
        answer([(KNOWN, inapplicable)], None, None, one_at_least=True)
    with pytest.raises(AuditError, match="one site; needs 10") as refused:
        answer(both, None, None, one_at_least=True)
    assert not isinstance(refused.value, NotAsked)
