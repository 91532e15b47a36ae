"""Keeps freed memory mapped, because page faults dominate a CPU training step otherwise."""

import os
import platform
import sys

# By default glibc maps every large array afresh and unmaps it when freed, so each step touches
# gigabytes of new pages, which the kernel zeroes one by one. Reused huge pages cost nothing. glibc
# reads these settings before Python starts, hence the restart.
_SETTINGS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**37),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def restart_keeping_memory() -> None:
    """Restarts this Python command, in the same process, with an allocator that keeps memory.

    Does nothing if the allocator is not glibc's, as outside of Linux, or if one of its settings is
    already in the environment: this process is the restarted one, or the user has chosen.
    """
    set_before = any(name in os.environ for name in _SETTINGS)
    if sys.platform == "linux" and not set_before and platform.libc_ver()[0] == "glibc":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | _SETTINGS)
