"""Do files give away the label, or do patients sit on both sides of the split?"""

from fastgan.audit.leakage.judge import judge

__all__ = ["judge"]
