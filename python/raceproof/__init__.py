"""The thread-safe parts to build programs on that run without a GIL.

Each name says in its docstring what is atomic, what blocks, and what happens on a timeout, an exception and a fork.
"""

from raceproof._cache import CacheInfo, cached, single_flight
from raceproof._native import (
    ABSENT,
    Cache,
    CacheStats,
    Change,
    Lazy,
    RaceproofError,
    ReentrantError,
    SharedState,
    WaitTimeout,
    Watch,
    is_shared,
    set_sharing,
    share,
)
from raceproof._once import ThreadSafeSingleton, once
from raceproof._state import ThreadSafeGlobalState

__all__ = [
    "ABSENT",
    "Cache",
    "CacheInfo",
    "CacheStats",
    "Change",
    "Lazy",
    "RaceproofError",
    "ReentrantError",
    "SharedState",
    "ThreadSafeGlobalState",
    "ThreadSafeSingleton",
    "WaitTimeout",
    "Watch",
    "cached",
    "is_shared",
    "once",
    "set_sharing",
    "share",
    "single_flight",
]
