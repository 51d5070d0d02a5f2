"""The thread-safe parts to build programs on that run without a GIL.

Each name says in its docstring what is atomic, what blocks, and what happens on a timeout, an exception and a fork.
"""

from typing import TYPE_CHECKING

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
from raceproof.pool import Future, Pool, RunningTask, ShutdownReport

if TYPE_CHECKING:
    from raceproof.monitor import HealthMonitor, IncidentManager

__all__ = [
    "AtomicInt",
    "AtomicReference",
    "ConcurrentMap",
    "CounterMap",
    "Future",
    "HealthMonitor",
    "IncidentManager",
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


def __getattr__(name):
    # A program that does not use the monitor shall not pay for asyncio and what else it loads.
    if name in ("HealthMonitor", "IncidentManager", "monitor"):
        import importlib

        monitor = importlib.import_module("raceproof.monitor")
        return monitor if name == "monitor" else getattr(monitor, name)
    raise AttributeError(f"module 'raceproof' has no attribute {name!r}")
