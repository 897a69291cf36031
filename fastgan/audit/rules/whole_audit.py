"""Limits of every judgement: error level, who trades, what a control must find."""

from __future__ import annotations

from fastgan.audit.rules.rule import CHOICE, CONVENTION, Rule

__all__ = ["AUDIT", "CONTROLS", "EXCHANGE"]

AUDIT = (
    Rule(
        "audit.alpha",
        0.05,
        "probability",
        "false alarms over all p-values of an audit together (Holm)",
        CONVENTION,
    ),
    Rule(
        "audit.certified",
        0.95,
        "probability",
        "one-sided bounds by which a share is certified or refuted",
        CONVENTION,
    ),
    Rule(
        "audit.tests",
        20,
        "tests",
        "a planted fault must be found at alpha over these: the first step of Holm's correction, "
        "so that a stated power is that of the verdict and not of a test by itself",
        "no audit has more findings with a p-value",
    ),
    Rule(
        "audit.permutations",
        999,
        "permutations",
        "the least p, 1 in 1,000, has to lie below alpha over the tests, 1 in 400",
        CONVENTION,
    ),
    Rule(
        "audit.planted",
        300,
        "runs",
        "planted runs behind a point of a power curve: a share of 0.8 is then known to 5 points",
        CHOICE,
    ),
    Rule(
        "audit.least_subjects",
        10,
        "subjects a group",
        "fewer on a side and no exchange of subjects reaches the level of the controls",
        CHOICE,
    ),
    Rule(
        "audit.least_to_fit",
        20,
        "subjects a group",
        "fewer, and no classifier finds even a plain shortcut",
        CHOICE,
    ),
    Rule(
        "controls.found",
        0.8,
        "share of runs",
        "a planted fault found less often may as well be missed; the customary power of a trial",
        CONVENTION,
    ),
)

EXCHANGE = (
    Rule(
        "exchange.kept",
        0.9,
        "share of the moves",
        "that whole subjects must keep of what single volumes allow: below it one volume of each "
        "is drawn, above it several volumes of a subject are worth more than the moves",
        CHOICE,
    ),
    Rule(
        "exchange.least_traders",
        20,
        "subjects",
        "that may get another label: twice what a group needs at least",
        "follows from audit.least_subjects",
    ),
    Rule(
        "exchange.least_arrangements",
        400,
        "ways",
        "to trade: with fewer no p-value reaches alpha over the tests of an audit",
        "follows from audit.alpha and audit.tests",
    ),
)

CONTROLS = (
    Rule(
        "controls.alarms_sure",
        0.999,
        "probability",
        "that a control without a fault alarms too often before its test is called broken: an "
        "audit has some twenty, and a broken one takes its verdict away",
        "1 in 50 sound audits then loses one verdict",
    ),
)
