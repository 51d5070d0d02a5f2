"""What the tests share: real threads that start together, and whether this interpreter runs without a GIL."""

import sys
import threading
import time

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


@pytest.fixture
def together():
    """`together(f, g)` calls both at once in two real threads and returns their results."""
    return run_together


def pytest_report_header():
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    if enabled:
        return "GIL: ENABLED. Nothing here runs in parallel, so races are not tested; use a free-threaded Python."
    return "GIL: disabled"
