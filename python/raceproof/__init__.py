"""The thread-safe parts to build programs on that run without a GIL.

Each name says in its docstring what is atomic, what blocks, and what happens on a timeout, an exception and a fork.
"""

from raceproof._native import (
    AsyncLock,
    DeadlockError,
    Lock,
    LockOrderError,
    LockOrderWarning,
    RLock,
    RWLock,
    RWLockSide,
    RaceproofError,
    WaitTimeout,
    is_shared,
    lock_report,
    set_sharing,
    share,
    time_locks,
    watch_locks,
)

__all__ = [
    "AsyncLock",
    "DeadlockError",
    "Lock",
    "LockOrderError",
    "LockOrderWarning",
    "RLock",
    "RWLock",
    "RWLockSide",
    "RaceproofError",
    "WaitTimeout",
    "is_shared",
    "lock_report",
    "set_sharing",
    "share",
    "time_locks",
    "watch_locks",
]
