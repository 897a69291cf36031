"""Do labels stay true under augmentation and generation?"""

from fastgan.audit.labels.judge import judge

__all__ = ["judge"]
