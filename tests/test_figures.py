"""Every table of measured numbers says which committed result it shows, and shows just that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.tables import RENDERERS, ROOT, Found, pages, render, tables_of, write

# Measured anew, and compared, by the test named.
HELD = {
    ("docs/kernels.md", "| | norm none | goal |"): (
        "tests/ops/test_penalty_budget.py::test_the_page_shows_what_is_measured"
    ),
    ("docs/distributed.md", "| | what happens |"): (
        "tests/train/test_ranks_faults.py::test_a_hung_rank_ends_the_others_in_the_time_stated"
    ),
    ("docs/gpu.md", "| pass | dtype | launches"): "tests/ops/test_stock_budget.py::test_norm_act",
    ("docs/gpu.md", "| kernels | precision | before"): (
        "tests/train/test_launches.py::test_the_page_shows_what_is_counted"
    ),
}
# Tables whose result is not committed yet. As soon as the file is there a page has to show it.
AWAITED = {
    "demo": "bench/results/demo/nodules-32.json",
    "repeats": "bench/results/demo_repeats/runs.jsonl",
}
# Numbers in these are settings, formulas, limits or names: nothing was measured.
DEFINITIONS = (
    "| `data.modality` |",
    "| code | meaning |",
    "| column | meaning |",
    "| family | patient |",
    "| format | files |",
    "| control | decides |",
    "| rule | value |",  # compared with the rules in tests/audit/test_rules.py
    "| finding | asks |",
    "| figure | what it is |",
    "| finding | what is measured |",
    "| finding | what is asked |",
    "| key | default |",
    "| metric | ",
    "| mutant | why it survives |",
    "| operator | kernels of a pass |",
    "| part | how it is drawn |",
    "| pass | least | nothing stays in L2 |",
    "| path | taken for |",
    "| variable | ",
    "| variant | ",
    "| verdict | when |",
    "| | how it is held |",
    "| | |",
)
# Written, tables and all, by a study of its own between two markers.
STUDIES = {"docs/audit/truth.md": "<!-- written by bench/studies/truth: begin -->"}
QUOTED = re.compile(r"`[^`]*`|\[[^\]]*\]\([^)]*\)")


def found_tables() -> list[tuple[str, Found, list[str]]]:
    found = []
    for page in pages():
        lines = page.read_text(encoding="utf-8").splitlines()
        name = str(page.relative_to(ROOT))
        found += [(name, table, lines[table.first : table.last]) for table in tables_of(lines)]
    return found


TABLES = found_tables()


def held(page: str, table: Found) -> bool:
    return any(key[0] == page and table.header.startswith(key[1]) for key in HELD)


def of_a_study(page: str, table: Found) -> bool:
    if page not in STUDIES:
        return False
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return lines.index(STUDIES[page]) < table.first < lines.index("<!-- end -->")


def test_what_a_study_writes_is_what_it_found() -> None:
    from bench.studies.truth.__main__ import RESULTS
    from bench.studies.truth.study import lines_of
    from bench.studies.truth.table import DOCUMENT, written

    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == written(text, lines_of(RESULTS)), "`python -m bench.studies.truth --table`"


@pytest.mark.parametrize(
    ("page", "table", "lines"),
    [entry for entry in TABLES if entry[1].name],
    ids=lambda value: value.name if isinstance(value, Found) else None,
)
def test_shows_what_was_measured(page: str, table: Found, lines: list[str]) -> None:
    assert table.name is not None and table.file is not None
    assert lines == render(table.name, table.file), f"{page}: `make tables` writes it anew"


def test_every_table_of_numbers_has_a_source() -> None:
    missing = []
    for page, table, lines in TABLES:
        defined = table.header.startswith(DEFINITIONS) or table.header == "| | |"
        numbers = re.search(r"\d", QUOTED.sub("", " ".join(lines[2:])))
        sourced = table.name is not None or held(page, table) or of_a_study(page, table)
        if numbers and not (defined or sourced):
            missing.append((page, table.header))
    assert missing == []


def test_every_renderer_is_used() -> None:
    awaited = {name for name, file in AWAITED.items() if not (ROOT / file).exists()}
    assert {table.name for _, table, _ in TABLES if table.name} == set(RENDERERS) - awaited


@pytest.mark.parametrize(("page", "header"), HELD)
def test_what_a_test_holds_is_there_and_has_that_test(page: str, header: str) -> None:
    assert any(table.header.startswith(header) for name, table, _ in TABLES if name == page)
    file, _, name = HELD[page, header].partition("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_a_changed_figure_is_noticed_and_written_back(tmp_path: Path) -> None:
    source = "bench/results/audit/power_sites.json"
    right = render("site_power", source)
    wrong = [line.replace("0.56", "0.65") for line in right]
    assert wrong != right
    page = tmp_path / "page.md"
    marker = f"<!-- table site_power from {source} -->"
    page.write_text("\n".join(["# Power", "", marker, "", *wrong, "", "After."]) + "\n")
    assert write(page)
    assert page.read_text() == "\n".join(["# Power", "", marker, "", *right, "", "After."]) + "\n"
    assert not write(page)


def test_tables_in_code_are_none() -> None:
    lines = ["```", "| a |", "|---|", "| 1 |", "```", "| b |", "|---|", "| 2 |"]
    assert [table.header for table in tables_of(lines)] == ["| b |"]


@pytest.mark.parametrize(
    ("name", "file", "error"),
    [("site_power", "bench/results/none.json", "no such file"), ("nothing", "LICENSE", "nothing")],
)
def test_rejects_a_marker_that_names_nothing(name: str, file: str, error: str) -> None:
    with pytest.raises((FileNotFoundError, KeyError), match=error):
        render(name, file)
