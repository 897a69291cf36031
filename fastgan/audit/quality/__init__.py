"""How close is the generated distribution to unseen patients?"""

from fastgan.audit.quality.judge import judge

__all__ = ["judge"]
