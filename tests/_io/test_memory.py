"""Freed blocks stay with the process."""

import subprocess
import sys

import pytest

# Page faults of taking and giving back 64 MiB twenty times, as a network's large maps do.
_COUNT = """
import ctypes, resource, sys
from rela_zoo._io.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory() and keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told")
def test_blocks_are_not_asked_for_anew() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", _COUNT, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "plain")
    }
    assert faults["kept"] * 4 < faults["plain"]
