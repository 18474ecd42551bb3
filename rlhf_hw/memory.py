"""Keep freed memory in the process.

glibc hands each large block back to the system as soon as it is freed, and the next training step gets it
again page by page, cleared. A training step frees and allocates the same sizes over and over: keeping them
saves about a tenth of its time.
"""

import ctypes
import platform

# the names and numbers of <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed, for the rest of the process; returns whether the system can."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # no block by mmap, and never give back the end of the heap
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1))
