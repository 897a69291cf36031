"""The audit as a whole: isolation of judgements, exit codes, and what is refused."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from fastgan.audit import run
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Finding, Outcome
from fastgan.errors import AuditError, ConfigError, NotAsked


def cohort(name: str, count: int = 4, shape=(4, 4, 4), prefix: str = "") -> Cohort:
    values = np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)
    return Cohort(name, values, np.array([f"{prefix or name}-{i}" for i in range(count)]))


def evidence(**changes) -> Evidence:
    given = {
        "training": cohort("training"),
        "holdout": cohort("held-out"),
        "generated": cohort("generated"),
        "spacing": (1.0, 1.0, 1.0),
    }
    return Evidence(**(given | changes))


@pytest.fixture
def judgements(monkeypatch):
    """Replaces the judgements by functions, name -> judge."""

    def use(**judges):
        monkeypatch.setattr(run, "JUDGEMENTS", {name: f"{name} asks this?" for name in judges})
        for name, judge in judges.items():
            module = types.ModuleType(f"fastgan.audit.{name}")
            module.judge = judge
            monkeypatch.setitem(sys.modules, module.__name__, module)

    return use


def saying(name: str, verdict: str):
    outcome = Outcome(verdict, verdict)
    made = [Finding(name, f"{name}.x", "?", outcome, by_construction="all is compared")]
    return lambda evidence, options: made


def refusing(evidence, options):
    raise AuditError("needs 20 subjects, got 3")


def broken(evidence, options):
    raise ZeroDivisionError("planted")


@pytest.mark.parametrize(
    ("verdicts", "verdict", "code"),
    [
        (("pass", "warn"), "warn", 0),
        (("pass",), "pass", 0),
        (("warn", "cannot tell", "pass"), "cannot tell", 4),
        (("cannot tell", "fail"), "fail", 3),
        (("pass", "not asked"), "pass", 0),
        (("not asked", "warn"), "warn", 0),
        (("not asked", "cannot tell", "pass"), "cannot tell", 4),
        (("not asked", "fail"), "fail", 3),
        (("not asked", "not asked"), "cannot tell", 4),
    ],
)
def test_exit_code_follows_the_worst_verdict(judgements, verdicts, verdict, code) -> None:
    judgements(**{f"j{i}": saying(f"j{i}", v) for i, v in enumerate(verdicts)})
    found = run.audit(evidence())
    assert (found.verdict, found.exit_code) == (verdict, code)


def test_a_refusal_does_not_stop_the_others(judgements) -> None:
    judgements(a=refusing, b=broken, c=saying("c", "pass"))
    found = run.audit(evidence())
    assert [s.verdict for s in found.settled] == ["cannot tell", "cannot tell", "pass"]
    assert found.settled[0].sentence == "Cannot tell: needs 20 subjects, got 3."
    assert "ZeroDivisionError: planted" in found.settled[1].sentence
    assert list(found.faults) == ["b"] and "ZeroDivisionError" in found.faults["b"]
    assert list(found.seconds) == ["a", "b", "c"]
    assert all(0.0 <= seconds < 60.0 for seconds in found.seconds.values())
    for one in found.settled[:2]:
        name = one.finding.judgement
        assert one.finding.key == name and one.finding.question == f"{name.upper()} asks this?"


def test_only_runs_what_is_asked(judgements) -> None:
    judgements(a=refusing, c=saying("c", "pass"))
    found = run.audit(evidence(), only=["c", "c"])
    assert [(s.finding.key, s.verdict) for s in found.settled] == [
        ("a", "not asked"),
        ("c.x", "pass"),
    ]
    assert "left out by --only" in found.settled[0].sentence and found.exit_code == 0
    assert list(found.seconds) == ["c"]
    with pytest.raises(ConfigError, match="unknown judgement 'd'"):
        run.audit(evidence(), only=["d"])


def test_a_translator_is_asked_other_questions(judgements) -> None:
    judgements(translation=saying("translation", "pass"), c=saying("c", "pass"))
    found = run.audit(evidence())
    assert [(s.finding.key, s.verdict) for s in found.settled] == [
        ("translation", "not asked"),
        ("c.x", "pass"),
    ]
    found = run.audit(evidence(translate=lambda volumes: volumes))
    assert [(s.finding.key, s.verdict) for s in found.settled] == [
        ("translation.x", "pass"),
        ("c", "not asked"),
    ]


def test_a_judgement_that_does_not_apply_is_not_asked(judgements) -> None:
    def inapplicable(evidence, options):
        raise NotAsked("the data have no classes")

    judgements(a=inapplicable, c=saying("c", "pass"))
    found = run.audit(evidence())
    assert found.settled[0].sentence == "Not asked: the data have no classes."
    assert (found.verdict, found.exit_code) == ("pass", 0)


def test_shared_subjects_leave_leakage_alone_to_speak(judgements) -> None:
    judgements(leakage=saying("leakage", "fail"), c=saying("c", "pass"))
    found = run.audit(evidence(holdout=cohort("held-out", 5, prefix="training")))
    assert [s.verdict for s in found.settled] == ["fail", "cannot tell"]
    assert "4 of 5 held-out subjects" in found.settled[1].sentence


def test_rejects_another_shape() -> None:
    with pytest.raises(AuditError, match=r"generated volumes have \(4, 4, 5\) voxels"):
        run.audit(evidence(generated=cohort("generated", shape=(4, 4, 5))))


def test_every_judgement_exists() -> None:
    for name in run.JUDGEMENTS:
        module = __import__(f"fastgan.audit.{name}", fromlist=["judge"])
        assert callable(module.judge)


def test_cohort_rejects_what_does_not_fit() -> None:
    values = np.zeros((2, 4, 4, 4), np.float32)
    names = np.array(["a", "b"])
    with pytest.raises(AuditError, match=r"must be \[N, D, H, W\]"):
        Cohort("training", values[0], names)
    with pytest.raises(AuditError, match="2 volumes but 1 subjects"):
        Cohort("training", values, names[:1])
    with pytest.raises(AuditError, match="2 volumes but 3 site"):
        Cohort("training", values, names, columns={"site": np.array(["x"] * 3)})
    values[1, 0, 0, 0] = np.nan
    with pytest.raises(AuditError, match="number 1 holds NaN"):
        Cohort("training", values, names)


def test_cohort_subset_keeps_rows_together() -> None:
    whole = Cohort(
        "training",
        np.arange(3, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 2), np.float32),
        np.array(["a", "a", "b"]),
        np.array([0, 1, 1]),
        {"site": np.array(["x", "y", "z"])},
    )
    part = whole.subset(np.array([False, True, True]))
    assert part.values[:, 0, 0, 0].tolist() == [1.0, 2.0]
    assert part.subjects.tolist() == ["a", "b"] and part.columns["site"].tolist() == ["y", "z"]
    assert part.n_subjects == 2 and whole.n_subjects == 2
    assert whole.subset(np.array([2, 0])).labels.tolist() == [1, 0]


def test_draws_depend_on_seed_and_purpose_alone() -> None:
    first = Options(seed=3).rng("a").integers(0, 2**60)
    assert Options(seed=3).rng("a").integers(0, 2**60) == first
    assert Options(seed=3).rng("b").integers(0, 2**60) != first
    assert Options(seed=4).rng("a").integers(0, 2**60) != first
