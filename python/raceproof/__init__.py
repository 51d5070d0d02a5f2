"""The thread-safe parts to build programs on that run without a GIL.

Each name says in its docstring what is atomic, what blocks, and what happens on a timeout, an exception and a fork.
"""

from raceproof import _fork as _fork
from raceproof._native import (
    ConcurrentMap,
    CounterMap,
    AtomicInt,
    AtomicReference,
    QueueFull,
    RaceproofError,
    ReentrantError,
    ThreadSafeDict,
    ThreadSafeList,
    ThreadSafeSet,
    StripedCounter,
    ThreadLocal,
    WaitTimeout,
    is_shared,
    set_sharing,
    share,
)
from raceproof.pool import Future, Pool, RunningTask, ShutdownReport

__all__ = [
    "ConcurrentMap",
    "CounterMap",
    "AtomicInt",
    "AtomicReference",
    "Future",
    "Pool",
    "QueueFull",
    "RaceproofError",
    "ReentrantError",
    "ThreadSafeDict",
    "ThreadSafeList",
    "ThreadSafeSet",
    "RunningTask",
    "ShutdownReport",
    "StripedCounter",
    "ThreadLocal",
    "WaitTimeout",
    "is_shared",
    "set_sharing",
    "share",
]
