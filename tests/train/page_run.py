"""A small run whose page is looked at, and what a test changes in its folder."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from fastgan.config import dump, parse


def page_of(run: Path) -> str:
    return (run / "run.html").read_text(encoding="utf-8")


def headline(run: Path) -> str:
    (found,) = re.findall("<h1>(.*?)</h1>", page_of(run))
    return html.unescape(found)


def rewrite_config(run: Path, **sections: dict) -> None:
    config = parse(json.loads(json.dumps({"name": "tiny", **sections})))
    (run / "config.yaml").write_text(dump(config))


def rows_to(run: Path, rows: list[dict]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
