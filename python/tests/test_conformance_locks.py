"""CPython's own tests of locks, run with our locks.

They come with the interpreter; where it has none, there is nothing to run.
"""

import threading

import pytest

import raceproof

lock_tests = pytest.importorskip("test.lock_tests")


class TestLock(lock_tests.LockTests):
    locktype = raceproof.Lock


class TestRLock(lock_tests.RLockTests):
    locktype = raceproof.RLock


class TestWriteSide(lock_tests.BaseLockTests):
    """The side of the writer is a lock like any other."""

    locktype = staticmethod(lambda: raceproof.RWLock().write())


def conditions(lock):
    """`threading.Condition` over a lock of ours, also where the test gives none."""
    return staticmethod(lambda given=None: threading.Condition(lock() if given is None else given))


class TestConditionOverLock(lock_tests.ConditionTests):
    condtype = conditions(raceproof.Lock)

    # It takes the lock of the condition twice, which asks for one that is reentrant.
    test_acquire = None


class TestConditionOverRLock(lock_tests.ConditionTests):
    condtype = conditions(raceproof.RLock)


def inside(class_, lock, *names):
    """A class of `threading` in whose objects our lock stands in the place of the built-in one."""

    def make(*args, **kwargs):
        made = class_(*args, **kwargs)
        for name in names:
            assert hasattr(made, name)
            setattr(made, name, threading.Condition(lock()))
        return made

    return staticmethod(make)


class TestEvent(lock_tests.EventTests):
    eventtype = inside(threading.Event, raceproof.Lock, "_cond")


class TestSemaphore(lock_tests.SemaphoreTests):
    semtype = inside(threading.Semaphore, raceproof.Lock, "_cond")


class TestBoundedSemaphore(lock_tests.BoundedSemaphoreTests):
    semtype = inside(threading.BoundedSemaphore, raceproof.Lock, "_cond")


class TestBarrier(lock_tests.BarrierTests):
    barriertype = inside(threading.Barrier, raceproof.RLock, "_cond")
