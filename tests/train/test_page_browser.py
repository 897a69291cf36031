"""run.html in a browser: nothing overflows, fails or is fetched."""

from __future__ import annotations

import json

import pytest

from fastgan.train.page import write_page
from tests.browser import CHROMIUM, look
from tests.conftest import NO_BROWSER
from tests.train.page_run import page_of, rewrite_config, rows_to


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_in_a_browser_nothing_overflows_fails_or_is_fetched(copy, tmp_path):
    data = json.loads((copy / "data.json").read_text())
    data |= {"classes": ["a-very-long-class-name-without-any-space" * 4, "b"], "prior": [0.5, 0.5]}
    (copy / "data.json").write_text(json.dumps(data))
    long = f"critic/{'long_name_' * 12}"
    rows = [{"step": s, "critic/loss": -1.0 * s, long: 1e9} for s in range(1, 8)]
    rows[3]["critic/loss"] = None
    rows_to(copy, rows)
    rewrite_config(copy, data={"source": "/a/very/long/path" * 20}, train={"steps": 7})
    write_page(copy)
    saw, said = look(page_of(copy), tmp_path)
    for found in saw:
        assert found["overflow"] <= 0 and found["wide"] == [], found
        assert found["images"] > 8 and found["broken"] == 0 and found["charts"] == 2
        assert found["fetched"] == []
    assert "CONSOLE" not in said


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_the_browser_sees_planted_faults(tmp_path):
    (tmp_path / "there.css").write_text("p { color: red }")
    saw, said = look(
        '<html><head><link rel="stylesheet" href="there.css"></head><body>'
        '<p style="width:3000px">wide</p><img src="missing.png">'
        "<script>console.error('oh')</script></body></html>",
        tmp_path,
    )
    for found in saw:
        assert found["overflow"] > 1000 and found["wide"] and found["broken"] == 1
        names = {name.rpartition("/")[2] for name in found["fetched"]}
        assert names == {"there.css", "missing.png"}
    assert "CONSOLE" in said
