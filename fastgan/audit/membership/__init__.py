"""Could somebody find out who was in the training set?"""

from fastgan.audit.membership.judge import judge

__all__ = ["judge"]
