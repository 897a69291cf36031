"""`python -m tools.tables`: write every table that names its source anew, and say which pages."""

from __future__ import annotations

from tools.tables import ROOT, pages, write

for page in pages():
    if write(page):
        print(f"written: {page.relative_to(ROOT)}")
