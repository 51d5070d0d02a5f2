"""What the tests share: real threads that start together, and whether this interpreter runs without a GIL."""

import sys
import threading

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


@pytest.fixture
def together():
    """`together(f, g)` calls both at once in two real threads and returns their results."""
    return run_together


def pytest_report_header():
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    if enabled:
        return "GIL: ENABLED. Nothing here runs in parallel, so races are not tested; use a free-threaded Python."
    return "GIL: disabled"
