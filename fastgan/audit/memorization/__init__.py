"""Does the generator repeat training volumes?"""

from __future__ import annotations

from fastgan.audit.memorization.judge import judge

__all__ = ["judge"]
