"""How close is the generated distribution to unseen patients?"""

from __future__ import annotations

from fastgan.audit.quality.judge import judge

__all__ = ["judge"]
