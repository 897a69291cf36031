"""Can the label be read off marks, borders or columns?"""

from __future__ import annotations

from fastgan.audit.shortcuts.judge import judge

__all__ = ["judge"]
