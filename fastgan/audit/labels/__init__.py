"""Do labels stay true under augmentation and generation?"""

from __future__ import annotations

from fastgan.audit.labels.judge import judge

__all__ = ["judge"]
