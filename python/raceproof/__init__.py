"""The thread-safe parts to build programs on that run without a GIL.

Each name says in its docstring what is atomic, what blocks, and what happens on a timeout, an exception and a fork.
"""

from raceproof import _fork as _fork
from raceproof._native import (
    AtomicInt,
    AtomicReference,
    ConcurrentMap,
    CounterMap,
    QueueFull,
    RaceproofError,
    ReentrantError,
    StripedCounter,
    ThreadLocal,
    ThreadSafeDict,
    ThreadSafeList,
    ThreadSafeSet,
    WaitTimeout,
    is_shared,
    set_sharing,
    share,
)
from raceproof.monitor import HealthMonitor, IncidentManager

__all__ = [
    "HealthMonitor",
    "IncidentManager",
from raceproof.pool import Future, Pool, RunningTask, ShutdownReport

__all__ = [
    "AtomicInt",
    "AtomicReference",
    "ConcurrentMap",
    "CounterMap",
    "Future",
    "Pool",
    "QueueFull",
    "RaceproofError",
    "ReentrantError",
    "RunningTask",
    "ShutdownReport",
    "StripedCounter",
    "ThreadLocal",
    "ThreadSafeDict",
    "ThreadSafeList",
    "ThreadSafeSet",
    "WaitTimeout",
    "is_shared",
    "set_sharing",
    "share",
]
