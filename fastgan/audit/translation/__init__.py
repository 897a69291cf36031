"""Does translation keep anatomy and lesions?"""

from __future__ import annotations

from fastgan.audit.translation.judge import judge

__all__ = ["judge"]
