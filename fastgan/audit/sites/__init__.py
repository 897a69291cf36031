"""Do hospitals or scanners differ?"""

from fastgan.audit.sites.judge import judge

__all__ = ["judge"]
