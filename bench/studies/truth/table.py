"""Fault x strength x verdict, with counts and intervals, between the markers of a document."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from bench.studies.truth.faults import FAULTS
from fastgan.audit.statistics import clopper_pearson

__all__ = ["DOCUMENT", "clean_table", "fault_table", "write", "written"]

Line = dict[str, Any]

DOCUMENT = Path(__file__).parents[3] / "docs" / "audit" / "truth.md"
BEGIN, END = "<!-- written by bench/studies/truth: begin -->", "<!-- end -->"


def _interval(count: int, runs: int) -> str:
    low, high = clopper_pearson(count, runs)
    return f"{low:.0%} to {high:.0%}"


def fault_table(lines: list[Line]) -> str:
    """One row per fault and strength: how often it was found, and how often it passed."""
    groups: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        if line["kind"] != "clean":
            groups[line["fault"], line["strength"]].append(line)
    rows = [
        "| fault | strength | kind | sets | found | 95 % | cannot tell | passed | 95 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for fault, strength in (key for key in FAULTS if key in groups):
        own = groups[fault, strength]
        counts, runs = Counter(line["outcome"] for line in own), len(own)
        found, passed = counts["found"], counts["passed"]
        rows.append(
            f"| {fault} | {strength} | {own[0]['kind']} | {runs} | {found} | "
            f"{_interval(found, runs)} | {counts['cannot tell']} | {passed} | "
            f"{_interval(passed, runs)} |"
        )
    return "\n".join(rows)


def clean_table(lines: list[Line]) -> str:
    """One row per judgement: what it said where nothing was planted."""
    clean = [line for line in lines if line["kind"] == "clean"]
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for line in clean:
        for key, verdict in line["verdicts"].items():
            verdicts[key][verdict] += 1
    rows = [
        "| judgement | sets | pass | warn | fail | fails, 95 % | cannot tell | not asked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, counts in verdicts.items():
        runs = sum(counts.values())
        rows.append(
            f"| {key} | {runs} | {counts['pass']} | {counts['warn']} | {counts['fail']} | "
            f"{_interval(counts['fail'], runs)} | {counts['cannot tell']} | {counts['not asked']} |"
        )
    for name, own in (
        ("clean sets", clean),
        ("those whose lesions were measured", [x for x in clean if x.get("measured")]),
        (
            "those whose classes a reader can tell, too",
            [x for x in clean if x.get("measured") and x.get("clarity", 1.0) > 1],
        ),
    ):
        if own:
            rows += ["", _ends(name, own)]
    return "\n".join(rows)


def _ends(name: str, lines: list[Line]) -> str:
    """How audits ended, and how many of the questions that were asked were answered."""
    exits = Counter(line["exit"] for line in lines)
    verdicts = Counter(verdict for line in lines for verdict in line["verdicts"].values())
    asked = verdicts.total() - verdicts["not asked"]
    answered = (asked - verdicts["cannot tell"]) / max(asked, 1)
    return (
        f"Of {len(lines)} audits of {name}, {exits[0]} ended with 0, {exits[4]} could not tell "
        f"something, {exits[3]} failed ({_interval(exits[3], len(lines))}); {answered:.0%} of the "
        "questions that were asked were answered."
    )


def written(text: str, lines: list[Line]) -> str:
    """The document with its tables replaced.

    Raises:
        ValueError: the markers are missing.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{DOCUMENT.name}: needs {BEGIN} and {END} once each")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    audits = sorted({line["code"] for line in lines})
    about = f"{len(lines)} runs; sources of the audit: {', '.join(audits) or 'none'}."
    parts = [about, "### Faults", fault_table(lines), "### Clean sets", clean_table(lines)]
    return before + BEGIN + "\n" + "\n\n".join(parts) + "\n" + END + after


def write(lines: list[Line]) -> Path:
    """Write the tables into the document."""
    DOCUMENT.write_text(written(DOCUMENT.read_text(), lines))
    return DOCUMENT
