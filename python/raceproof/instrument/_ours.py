"""Stands in for the locks of raceproof while a program is under control: their interface, on the locks of the run."""

from raceproof._native import WaitTimeout, control


class _Within:
    def __init__(self, lock, seconds):
        self._lock, self._seconds = lock, seconds

    def __enter__(self):
        if not self._lock.acquire(timeout=self._seconds):
            raise WaitTimeout(f"the lock was not to be had within {self._seconds:.3f} s")
        return self._lock

    def __exit__(self, *error):
        self._lock.release()


class _Named:
    """What the locks of raceproof have besides those of `threading`. Nobody is seen to hold or wait."""

    holder = None
    waiters = 0
    held_for = None

    def __init__(self, name=None):
        self.name = name

    def within(self, seconds):
        return _Within(self, seconds)


class Lock(_Named, control.Lock):
    """`raceproof.Lock`."""

    def __new__(cls, name=None):
        return super().__new__(cls)


class RLock(_Named, control.RLock):
    """`raceproof.RLock`."""

    def __new__(cls, name=None):
        return super().__new__(cls)
