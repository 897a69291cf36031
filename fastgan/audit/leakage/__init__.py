"""Do files give away the label, or do patients sit on both sides of the split?"""

from __future__ import annotations

from fastgan.audit.leakage.judge import judge

__all__ = ["judge"]
