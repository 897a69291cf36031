"""The table of rules: complete, read by name, and the only place where a limit is written."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastgan.audit
from fastgan.audit.evidence import Options
from fastgan.audit.memorization.power import LEVELS
from fastgan.audit.rules import RULES, limit, table, whole

FOLDER = Path(fastgan.audit.__file__).parent


def names_read() -> list[str]:
    """Every name that some module asks `limit` or `whole` for."""
    read = []
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("limit", "whole"):
                assert isinstance(node.args[0], ast.Constant), f"{path}: a name that is computed"
                read.append(node.args[0].value)
    return read


def test_every_rule_is_read_and_everything_read_is_a_rule() -> None:
    assert set(names_read()) == set(RULES)


def test_every_rule_says_why_and_whence() -> None:
    for name, rule in RULES.items():
        assert name == rule.name and name.islower()
        assert rule.unit and len(rule.reason) > 10 and rule.source, name


def test_sources_that_are_files_exist() -> None:
    root = FOLDER.parents[1]
    for rule in RULES.values():
        if "/" in rule.source:
            assert (root / rule.source).is_file(), f"{rule.name}: {rule.source}"


def test_what_counts_is_whole() -> None:
    assert whole("audit.tests") == 20
    with pytest.raises(ValueError, match="counts nothing"):
        whole("audit.alpha")
    with pytest.raises(KeyError):
        limit("audit.nothing")


def test_rules_agree_with_each_other() -> None:
    least_p = 1 / (1 + Options().permutations)
    assert least_p <= Options().alpha / whole("audit.tests")
    assert limit("memorization.copies.decisive_noise") in LEVELS
    assert limit("memorization.prevalence.small_share") < limit(
        "memorization.prevalence.largest_share"
    )
    assert limit("labels.generated.tolerated") <= limit("labels.generated.in_a_class")
    assert limit("fidelity.nearest_low") * limit("fidelity.nearest_high") == pytest.approx(1.0)


def test_the_documented_table_is_the_one_in_force() -> None:
    document = FOLDER.parents[1] / "docs" / "audit" / "rules.md"
    written = table() in document.read_text(encoding="utf-8")
    assert written, "run python bench/studies/audit/rules_table.py"
