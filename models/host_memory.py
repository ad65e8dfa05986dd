"""How the C library treats memory that networks free: fresh pages cost as much as computing on them."""

import ctypes
import platform

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let freed features serve the next request instead of going back to the system.

    glibc maps allocations of 32 MB and more anew each time and gives back a heap whose end is free. An exact
    enlargement of 128x128 pixels then takes 10,800 page faults, a seventh of its time (docs/design.md). A process that
    keeps its memory is as large as its largest request made it.

    Returns:
        Whether the C library is glibc and did as told (mallopt(3)).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, MOST))
