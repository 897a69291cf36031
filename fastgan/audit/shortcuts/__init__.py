"""Can the label be read off marks, borders or columns?"""

from fastgan.audit.shortcuts.judge import judge

__all__ = ["judge"]
