"""Writes the table of docs/audit/rules.md from the rules in force."""

from __future__ import annotations

from pathlib import Path

from fastgan.audit.rules import table

DOCUMENT = Path(__file__).parents[3] / "docs" / "audit" / "rules.md"


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(text[: text.index("| rule |")] + table() + "\n", encoding="utf-8")
    print(f"{DOCUMENT}: {table().count(chr(10)) - 1} rules")


if __name__ == "__main__":
    main()
