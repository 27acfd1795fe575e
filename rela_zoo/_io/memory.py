"""How the process's memory is asked for and given back."""

from __future__ import annotations

import ctypes
from functools import lru_cache

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let the process keep blocks of up to 1 GiB that it frees, for those it asks for next; once a process.

    glibc gives blocks above 32 MiB back to the kernel at once, and gets them anew, page by page and zeroed, for the
    next batch: on a CPU that is up to half of the time of a network with large maps.

    Returns:
        Whether the C library could be told; elsewhere than with glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEPT)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
