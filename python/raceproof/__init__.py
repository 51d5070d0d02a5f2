"""The thread-safe parts to build programs on that run without a GIL.

Each name says in its docstring what is atomic, what blocks, and what happens on a timeout, an exception and a fork.
"""

from raceproof import _fork as _fork
from raceproof._cache import CacheInfo, cached, single_flight
from raceproof._native import (
    ABSENT,
    AtomicInt,
    AtomicReference,
    Cache,
    CacheStats,
    Change,
    ConcurrentMap,
    CounterMap,
    Lazy,
    QueueFull,
    RaceproofError,
    ReentrantError,
    SharedState,
    StripedCounter,
    ThreadLocal,
    ThreadSafeDict,
    ThreadSafeList,
    ThreadSafeSet,
    WaitTimeout,
    Watch,
    is_shared,
    set_sharing,
    share,
)
from raceproof._once import ThreadSafeSingleton, once
from raceproof._state import ThreadSafeGlobalState
from raceproof.pool import Future, Pool, RunningTask, ShutdownReport

__all__ = [
    "ABSENT",
    "AtomicInt",
    "AtomicReference",
    "Cache",
    "CacheInfo",
    "CacheStats",
    "Change",
    "ConcurrentMap",
    "CounterMap",
    "Future",
    "Lazy",
    "Pool",
    "QueueFull",
    "RaceproofError",
    "ReentrantError",
    "RunningTask",
    "SharedState",
    "ShutdownReport",
    "StripedCounter",
    "ThreadLocal",
    "ThreadSafeDict",
    "ThreadSafeGlobalState",
    "ThreadSafeList",
    "ThreadSafeSet",
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
