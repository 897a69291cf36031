"""Limits of membership."""

from __future__ import annotations

from fastgan.audit.rules.rule import CHOICE, Rule

__all__ = ["MEMBERSHIP"]

MEMBERSHIP = (
    Rule(
        "membership.largest_auc",
        0.65,
        "AUC",
        "upper end of the interval of the strongest attack that still passes, and the leak that "
        "must have been found: of a member and another, two in three are told at most",
        CHOICE,
    ),
    Rule(
        "membership.head",
        0.05,
        "share of the patients",
        "with the highest scores, among whom members are counted: few who are wholly exposed do "
        "not move an AUC",
        CHOICE,
    ),
    Rule(
        "membership.untrained",
        0.01,
        "p-value",
        "at which a critic that was never trained tells who was trained on: then it is the split "
        "that is told, not a membership",
        CHOICE,
    ),
    Rule(
        "membership.overtraining_seconds",
        600,
        "seconds",
        "that training the critic on few patients may take; beyond it the question of "
        "the checkpoint cannot be told",
        CHOICE,
    ),
    Rule(
        "membership.splits",
        99,
        "random splits",
        "a statistic above that of all of these has a probability of 1 %",
        "as memorization.prevalence.splits",
    ),
)
