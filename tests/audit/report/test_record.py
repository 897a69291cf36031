"""report.json: complete, read back as it was, and as its schema says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Figure, Finding, Outcome, Table, settle
from fastgan.audit.report.record import SCHEMA, Record, record_of, schema
from fastgan.audit.run import Audit


def test_json_reads_back_and_holds_every_number(found, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    evidence = replace(found.evidence, classes=("gutartig, klein", "bösartig"))
    path.write_bytes(record_of(replace(found, evidence=evidence)).as_json())
    assert "bösartig" in path.read_text(encoding="utf-8")
    content = json.loads(path.read_bytes())
    assert path.read_text().startswith('{\n "about": {\n  "run": "00000-demo"')
    assert content["schema"] == SCHEMA and content["verdict"] == "pass"
    (finding,) = content["findings"]
    assert finding["value"] == 0.8125 and finding["p_adjusted"] == 0.4
    assert finding["interval"] == [0.7, None]
    assert finding["controls"][0]["runs"] == 300
    assert [c["subjects"] for c in content["cohorts"]] == [3, 2, 2]
    assert content["seconds"] == {"memorization": 1.2}
    assert content["shape"] == [2, 3, 4] and content["spacing"] == [1.5, 1.5, 2.0]
    assert content["cohorts"][0]["classes"] == {"gutartig, klein": 3, "bösartig": 3}
    assert "LIDC-0001" not in path.read_text()


def test_json_reads_back_into_the_record(found, tmp_path: Path) -> None:
    record = record_of(found)
    path = tmp_path / "report.json"
    path.write_bytes(record.as_json())
    again = Record.read(path)
    assert again.as_json() == record.as_json()
    assert again.findings[0].interval == (0.7, None)


def test_schema_is_the_published_one() -> None:
    published = Path(__file__).parents[3] / "docs" / "audit" / "report.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(schema()))


def test_what_a_finding_leaves_out_is_nothing() -> None:
    bare = Finding("a", "a.b", "?", Outcome("warn", "Look."))
    (record,) = record_of(
        Audit(
            Evidence(*(Cohort(n, np.zeros((2, 2, 2, 2)), np.array(["a", "b"])) for n in "th"), None,
                     (1.0,) * 3),
            Options(), tuple(settle([bare], alpha=0.05)), {}, {},
        )
    ).findings  # fmt: skip
    assert (record.n_volumes, record.n_subjects, record.power) == (0, 0, "")
    assert (record.value, record.interval, record.floor, record.p) == (None,) * 4
    assert (record.controls, record.tables, record.methods, record.limits) == ((), (), "", "")
    assert not Table("t", (), ()).patient and not Figure("f", "c", b"").patient
    assert Control("c", "found", 1.0, (1.0, 1.0), 1, held=True).decisive
