"""Limits for a process that runs code of others: the memory and the time that it may use. Where the system sets none,
it has none; whoever started it ends it then."""

import os

_MIB = 1024 * 1024
_SPARE_S = 5


def limit(seconds: int, megabytes: int) -> None:
    """Limits this process and those that it forks, each for itself. Zero megabytes: no limit of memory."""
    try:
        import resource
    except ImportError:
        return
    if megabytes:
        # The allocator takes pages that it does not use yet: only what comes on top of them is limited.
        n = _data_now() + megabytes * _MIB
        resource.setrlimit(resource.RLIMIT_DATA, (n, n))
    # If nobody is left to end it.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + _SPARE_S, seconds + 2 * _SPARE_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _data_now():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
