"""The thread-safe parts to build programs on that run without a GIL.

Each name says in its docstring what is atomic, what blocks, and what happens on a timeout, an exception and a fork.
"""

from typing import TYPE_CHECKING

from raceproof._cache import CacheInfo, cached, single_flight
from raceproof._native import (
    ABSENT,
    AsyncLock,
    AtomicInt,
    AtomicReference,
    Cache,
    CacheStats,
    Change,
    ConcurrentMap,
    CounterMap,
    DeadlockError,
    Lazy,
    Lock,
    LockOrderError,
    LockOrderWarning,
    QueueFull,
    RaceproofError,
    ReentrantError,
    RLock,
    RWLock,
    RWLockSide,
    SharedState,
    StripedCounter,
    ThreadLocal,
    ThreadSafeDict,
    ThreadSafeList,
    ThreadSafeSet,
    WaitTimeout,
    Watch,
    is_shared,
    lock_report,
    set_sharing,
    share,
    time_locks,
    watch_locks,
)
from raceproof._once import ThreadSafeSingleton, once
from raceproof._state import ThreadSafeGlobalState
from raceproof.pool import Future, Pool, RunningTask, ShutdownReport

if TYPE_CHECKING:
    from raceproof.monitor import HealthMonitor, IncidentManager

__all__ = [
    "ABSENT",
    "AsyncLock",
    "AtomicInt",
    "AtomicReference",
    "Cache",
    "CacheInfo",
    "CacheStats",
    "Change",
    "ConcurrentMap",
    "CounterMap",
    "DeadlockError",
    "Future",
    "HealthMonitor",
    "IncidentManager",
    "Lazy",
    "Lock",
    "LockOrderError",
    "LockOrderWarning",
    "Pool",
    "QueueFull",
    "RLock",
    "RWLock",
    "RWLockSide",
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
    "lock_report",
    "once",
    "set_sharing",
    "share",
    "single_flight",
    "time_locks",
    "watch_locks",
]


def __getattr__(name):
    # A program that does not use the monitor shall not pay for asyncio and what else it loads.
    if name in ("HealthMonitor", "IncidentManager", "monitor"):
        import importlib

        monitor = importlib.import_module("raceproof.monitor")
        return monitor if name == "monitor" else getattr(monitor, name)
    if name == "testing":
        import importlib

        return importlib.import_module("raceproof.testing")
    raise AttributeError(f"module 'raceproof' has no attribute {name!r}")
