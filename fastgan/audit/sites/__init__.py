"""Do hospitals or scanners differ?"""

from __future__ import annotations

from fastgan.audit.sites.judge import judge

__all__ = ["judge"]
