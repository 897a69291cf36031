"""Does translation keep anatomy and lesions?"""

from fastgan.audit.translation.judge import judge

__all__ = ["judge"]
