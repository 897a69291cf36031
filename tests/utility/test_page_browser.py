"""utility.html in a browser: nothing overflows, fails or is fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastgan.utility.conclude import conclude
from fastgan.utility.report import page
from tests.browser import CHROMIUM, look
from tests.conftest import NO_BROWSER
from tests.utility.studies import cohort, finished, study


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_in_a_browser_nothing_overflows_fails_or_is_fetched(tmp_path: Path) -> None:
    patients = cohort(60, np.random.default_rng(0))
    patients.columns["site"][0] = "a-very-long-name-of-a-hospital-without-a-blank" * 4
    settings = study(groups=[{"column": "site"}, {"column": "age"}], name="n" * 100)
    task = finished(settings, patients, tmp_path / "s")
    saw, said = look(page(task, conclude(task)), tmp_path)
    for found in saw:
        assert found["overflow"] <= 0, found
        assert found["fetched"] == [] and found["broken"] == 0
    assert "CONSOLE" not in said
