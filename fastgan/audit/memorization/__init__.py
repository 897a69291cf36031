"""Does the generator repeat training volumes?"""

from fastgan.audit.memorization.judge import judge

__all__ = ["judge"]
