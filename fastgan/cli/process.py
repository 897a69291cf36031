"""Settings of the whole process that a program may make and a library may not."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

# From malloc.h, GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Let the C library reuse freed memory instead of returning it to the system.

    By default every tensor above 32 MiB is mapped fresh, and each of its pages faults when first
    written: 33,000 faults and more than half of the time of a few element-wise operations on
    32 MiB volumes. False where the C library has no such switch.

    OMP_WAIT_POLICY is left alone: threads that spin while they wait make an idle machine a little
    faster and a shared one many times slower, and this program cannot know which it is on.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 2**30) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
