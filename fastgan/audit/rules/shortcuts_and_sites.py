"""Limits of shortcuts and sites."""

from __future__ import annotations

from fastgan.audit.rules.rule import CHOICE, CONVENTION, Rule

__all__ = ["SHORTCUTS", "SITES"]

SHORTCUTS = (
    Rule(
        "shortcuts.marks.height",
        1.0,
        "standard deviations of a voxel",
        "of the planted mark on which the finding rests",
        CHOICE,
    ),
    Rule(
        "shortcuts.marks.agreement",
        0.9,
        "share of subjects",
        "whose planted mark goes with the label; a scanner's mark is on every volume of it",
        CHOICE,
    ),
    Rule(
        "shortcuts.marks.varying_share",
        0.02,
        "share of volumes",
        "that must differ from a voxel's median for it to be tested",
        CHOICE,
    ),
    Rule(
        "shortcuts.marks.varying_volumes",
        10,
        "volumes",
        "that must differ from a voxel's median for it to be tested",
        CHOICE,
    ),
    Rule(
        "shortcuts.edges.fixed",
        2.5,
        "deviations within a class",
        "by which the mean of a step between neighbours differs where an edge is drawn: between "
        "what clean sets of 67 patients and more reach and what marks of 30 % of the range do",
        "bench/results/audit/fixed_edges.json",
    ),
    Rule(
        "shortcuts.edges.by_chance",
        1.8,
        "deviations within a class",
        "that permuted labels may reach: above it chance and disease together come near the limit",
        "bench/results/audit/fixed_edges.json",
    ),
    Rule(
        "shortcuts.edges.height",
        0.6,
        "in [-1, 1]",
        "of the planted mark: 30 % of the range, plain to see in any volume",
        CHOICE,
    ),
    Rule(
        "shortcuts.marks.whole_picture",
        0.25,
        "share of voxels",
        "that differ, above which the picture as a whole does and no mark is meant",
        CHOICE,
    ),
    Rule(
        "shortcuts.goes_with_label",
        0.05,
        "p-value",
        "to which sites or scanners count as unevenly spread over the classes",
        CONVENTION,
    ),
    Rule(
        "shortcuts.regions.height",
        0.3,
        "in [-1, 1]",
        "by which the planted mark in a corner is brighter, as shortcuts.amplification.height",
        CHOICE,
    ),
    Rule(
        "shortcuts.regions.shift",
        1.0,
        "standard deviations of the region's mean between volumes",
        "by which all of a region is brighter, a point of the power curve",
        CHOICE,
    ),
    Rule(
        "shortcuts.regions.agreement",
        0.9,
        "share of subjects",
        "whose planted mark or shift goes with the label",
        CHOICE,
    ),
    Rule(
        "shortcuts.columns.shift",
        1.0,
        "standard deviations of the volumes' means",
        "by which volumes of a planted column are brighter: 0.8 was found in 65 % of runs in 133 "
        "head patients",
        CHOICE,
    ),
    Rule(
        "shortcuts.columns.agreement",
        0.75,
        "share of subjects",
        "whose planted column goes with the label: both of its values then occur in each class",
        CHOICE,
    ),
    Rule(
        "shortcuts.explained.telling",
        0.8,
        "AUC",
        "of a single statistic, from which the reader is warned",
        CHOICE,
    ),
    Rule(
        "shortcuts.amplification.height",
        0.3,
        "in [-1, 1]",
        "by which the planted mark in a corner of generated volumes is brighter: plain to see "
        "beside the texture of lung or brain",
        CHOICE,
    ),
    Rule(
        "shortcuts.amplification.least",
        20,
        "volumes a class and side",
        "fewer, and an AUC says nothing",
        CHOICE,
    ),
    Rule(
        "shortcuts.swap.largest_share",
        0.02,
        "share of the squared change",
        "that may lie outside the bodies, on average",
        CHOICE,
    ),
    Rule(
        "shortcuts.swap.most_filled",
        0.9,
        "share of voxels",
        "in bodies, above which there is no outside that could change",
        CHOICE,
    ),
)

SITES = (
    Rule(
        "sites.decisive",
        0.8,
        "standard deviations of the volumes' means",
        "planted offset that must be found at the full number of subjects",
        "a large effect (Cohen 1988)",
    ),
)
