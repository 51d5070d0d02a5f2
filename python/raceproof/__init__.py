"""The thread-safe parts to build programs on that run without a GIL.

Each name says in its docstring what is atomic, what blocks, and what happens on a timeout, an exception and a fork.
"""

from raceproof._native import (
    RaceproofError,
    WaitTimeout,
    is_shared,
    set_sharing,
    share,
)
from raceproof.monitor import HealthMonitor, IncidentManager

__all__ = [
    "HealthMonitor",
    "IncidentManager",
    "RaceproofError",
    "WaitTimeout",
    "is_shared",
    "set_sharing",
    "share",
]
