"""What this process may use of the machine: cores, memory, shared memory; limits of containers included."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may keep busy: those it is bound to, and no more than its container's quota.

    Examples:
        >>> from rela_zoo._io.resources import usable_cores
        >>> usable_cores() >= 1
        True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        bound = min(bound, max(1, int(quota) // int(period)))  # `max` where there is no quota
    return bound


def free_memory() -> int | None:
    """Bytes of memory that can still be taken; None where the system doesn't say."""
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(one.split()[1]) << 10 for one in lines if one.startswith("MemAvailable")))
    with suppress(OSError, ValueError):
        most, now = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(0, most - now))
    return min(found, default=None)


def free_shared_memory() -> int | None:
    """Bytes left where processes hand over tensors, of which a container may have as few as 64 MiB; None: no bound."""
    with suppress(OSError):
        return shutil.disk_usage("/dev/shm").free
    return None
