"""Stands in for the locks of raceproof while a program is under control: their interface, on the locks of the run."""

from raceproof._native import DeadlockError, WaitTimeout, control


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


class _Side(_Named):
    """The side of the readers, or that of the writer, of an `RWLock`."""

    def __init__(self, lock, is_shared):
        super().__init__(lock.name)
        self._lock, self._is_shared = lock, is_shared

    def acquire(self, blocking=True, timeout=-1.0):
        return self._lock._acquire(self._is_shared, blocking, None if timeout == -1.0 else timeout)

    def release(self):
        self._lock._release(self._is_shared)

    def locked(self):
        return self._lock._is_held(self._is_shared)

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *error):
        self.release()


class RWLock(_Named):
    """`raceproof.RWLock`: a writer that waits keeps readers out that come later."""

    def __init__(self, name=None):
        super().__init__(name)
        self._readers, self._gate = control.SharedLock(), control.Lock()
        self._run, self._held, self._taken = -1, {}, {}
        self._sides = _Side(self, True), _Side(self, False)

    def read(self):
        return self._sides[0]

    def write(self):
        return self._sides[1]

    def locked(self):
        return any(any(counts) for counts in self._counts().values())

    @property
    def writer(self):
        return None

    @property
    def readers(self):
        return []

    def _counts(self):
        """How often each thread reads and writes in this run."""
        if self._run != control.run_number():
            self._run, self._held = control.run_number(), {}
        return self._held

    def _is_held(self, is_shared):
        return any(counts[not is_shared] for counts in self._counts().values())

    def _acquire(self, is_shared, blocking, timeout):
        counts = self._counts().setdefault(control.seat(), [0, 0])
        if not is_shared and any(counts):
            if not blocking:
                return False
            raise DeadlockError("RWLock is held by this thread, which would wait for itself to write")
        if not any(counts):
            if not control.is_thread_of_run():
                if self._outside(is_shared):
                    raise RuntimeError("the lock is held, and no thread is left that could release it")
            elif not self._wait(is_shared, blocking, timeout):
                return False
            self._taken[control.seat()] = is_shared
        counts[not is_shared] += 1
        return True

    def _outside(self, is_shared):
        """Is it taken, for one who is no thread of a run?"""
        return any(counts[1] or (counts[0] and not is_shared) for counts in self._counts().values())

    def _wait(self, is_shared, blocking, timeout):
        if not self._gate.acquire(blocking, -1.0 if timeout is None else timeout):
            return False
        try:
            return self._readers.acquire(is_shared, blocking, timeout)
        finally:
            self._gate.release()

    def _release(self, is_shared):
        counts = self._counts().get(control.seat(), [0, 0])
        if not counts[not is_shared]:
            raise RuntimeError("cannot release un-acquired lock")
        if sum(counts) == 1 and control.is_thread_of_run():
            self._readers.release(self._taken[control.seat()])
        counts[not is_shared] -= 1
        if not is_shared and counts[0]:
            control.untracked("a writer that goes on to read when it has given back the RWLock")
