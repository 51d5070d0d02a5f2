"""What the tests share: real threads that start together, processes of their own, waiting with an end, and whether
this interpreter runs without a GIL."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest


def run_together(*functions, timeout=60.0):
    """Calls each function in a thread of its own, all released at once; returns results, raises the first error."""
    barrier = threading.Barrier(len(functions))
    results = [None] * len(functions)
    errors = []

    def call(idx, function):
        barrier.wait(timeout)
        try:
            results[idx] = function()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=call, args=(idx, function), daemon=True) for idx, function in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
        assert not thread.is_alive(), f"{thread.name} still runs after {timeout} s"
    if errors:
        raise errors[0]
    return results


class Churn:
    """Threads that change a container, each by its function of a running number, until the block ends."""

    def __init__(self, *changes):
        self.changes = changes

    def __enter__(self):
        self.over = False
        self.errors = []
        self.threads = [threading.Thread(target=self.run, args=(change,), daemon=True) for change in self.changes]
        for thread in self.threads:
            thread.start()
        return self

    def run(self, change):
        n = 0
        try:
            while not self.over:
                change(n)
                n += 1
        except BaseException as error:
            self.errors.append(error)

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not self.errors


def repeat(seconds, function):
    """Calls the function again and again for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        function()


def until(condition, timeout=10.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


class Holder:
    """A thread that holds a lock until it is told to give it back."""

    def __init__(self, lock):
        self.lock, self.held, self.over = lock, threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.hold, name="the holder", daemon=True)

    def hold(self):
        with self.lock:
            self.held.set()
            self.over.wait(30)

    def __enter__(self):
        self.thread.start()
        assert self.held.wait(10)
        return self

    def __exit__(self, *exc_info):
        self.over.set()
        self.thread.join(10)


class Same:
    """Equal to others with the same number; all have the same hash, and each comparison calls `on_eq`."""

    def __init__(self, number, on_eq=lambda: None):
        self.number = number
        self.on_eq = on_eq

    def __hash__(self):
        return 7

    def __eq__(self, other):
        self.on_eq()
        return isinstance(other, Same) and self.number == other.number


async def aget(lazy, **kwargs):
    return await lazy.aget(**kwargs)


def run_python(text, timeout=60):
    """Runs a program of its own; returns what it printed."""
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=timeout)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def in_child(check, timeout=20):
    """Forks; True if the check is true in the child. One that hangs is ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(timeout)
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture
def together():
    """`together(f, g)` calls both at once in two real threads and returns their results."""
    return run_together


def pytest_report_header():
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    if enabled:
        return "GIL: ENABLED. Nothing here runs in parallel, so races are not tested; use a free-threaded Python."
    return "GIL: disabled"
