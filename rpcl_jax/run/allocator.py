"""Memory that stays mapped: what a training step on a CPU otherwise waits for."""

import os
import platform
import sys

# glibc maps every large array anew and unmaps it when it is freed, so that each step touches some
# gigabytes of fresh pages, which the kernel zeroes one by one. Kept and in huge pages, they cost
# nothing. glibc reads these before `main` runs, hence the restart.
_SETTINGS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**37),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def restart_keeping_memory() -> None:
    """Starts this Python command again, in the same process, with an allocator that keeps memory.

    Does nothing where the allocator is not glibc's, or where one of its settings is there already:
    that of the restarted process, or the user's own.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _SETTINGS):
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | _SETTINGS)
