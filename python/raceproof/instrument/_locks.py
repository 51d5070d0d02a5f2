"""What `threading.Lock`, `RLock` and `Condition` make while an exploration is active.

The setup, the invariant and the threads of the run get locks of the run. Any other thread of the process gets what it
would get without raceproof: nobody would wake it from a condition of the run.
"""

from raceproof._native import control
from raceproof.instrument import _real


class Lock(control.Lock):
    """`threading.Lock`."""

    def __new__(cls):
        return _real.Lock() if control.seat() < 0 else super().__new__(cls)


class RLock(control.RLock):
    """`threading.RLock`."""

    def __new__(cls):
        return _real.make_rlock() if control.seat() < 0 else super().__new__(cls)


class Condition(control.Condition):
    """`threading.Condition`."""

    def __new__(cls, lock=None):
        return _real.Condition(lock) if control.seat() < 0 else super().__new__(cls, lock)


def of_the_run(kind, *arguments):
    """One of these for the run, whichever thread asks."""
    return kind.__base__.__new__(kind, *arguments)
