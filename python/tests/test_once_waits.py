"""Singletons and `Lazy`: failures, cancellation, waiting and circles. As in test_once.py, quotes stand in the guide."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import aget, run_together

from raceproof import Lazy, ReentrantError, ThreadSafeSingleton, WaitTimeout

# --- failures ---


def test_a_constructor_that_raises_leaves_the_slot_empty():
    """ "If making it raises, that caller gets the exception and the slot stays empty"."""

    class Single(ThreadSafeSingleton):
        attempts = 0

        def __init__(self):
            type(self).attempts += 1
            if self.attempts < 3:
                raise ValueError(self.attempts)

    with pytest.raises(ValueError, match="1"):
        Single.instance()
    with pytest.raises(ValueError, match="2"):
        asyncio.run(Single.get_instance())
    assert Single.instance() is asyncio.run(Single.get_instance())
    assert Single.attempts == 3


@pytest.mark.parametrize("is_async", [False, True])
def test_one_of_those_who_wait_tries_next(is_async):
    """ "one of those who wait tries next": of four callers one gets the error, three get what the second made."""
    for _ in range(20):
        attempts = []

        def make():
            attempts.append(None)
            attempt = len(attempts)
            time.sleep(0.002)
            if attempt == 1:
                raise ValueError("first")
            return attempt

        lazy = Lazy(make)
        get = (lambda: asyncio.run(aget(lazy))) if is_async else lazy.get

        def outcome():
            try:
                return get()
            except ValueError:
                return "raised"

        assert sorted(map(str, run_together(*[outcome] * 4))) == ["2", "2", "2", "raised"]
        assert len(attempts) == 2


def test_a_cancelled_maker_hands_over():
    """ "A task that is cancelled while it makes the value hands over to one that waits"."""
    started = []

    async def make():
        started.append(None)
        await asyncio.sleep(0.01 if len(started) > 1 else 30)
        return len(started)

    lazy = Lazy(make)

    async def main():
        first = asyncio.create_task(aget(lazy))
        second = asyncio.create_task(aget(lazy))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == 2
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())


def test_a_cancelled_waiter_disturbs_nobody():
    """ "A task that is cancelled while it waits leaves the maker alone"."""

    async def make():
        await asyncio.sleep(0.05)
        return 1

    lazy = Lazy(make)

    async def main():
        first = asyncio.create_task(aget(lazy))
        await asyncio.sleep(0)
        second = asyncio.create_task(aget(lazy))
        await asyncio.sleep(0.01)
        second.cancel()
        assert await first == 1
        assert second.cancelled()

    asyncio.run(main())


# --- waiting ---


def held_up(seconds=1.0):
    """A Lazy that another thread is making, for so long; and the thread."""
    entered = threading.Event()

    def factory():
        entered.set()
        time.sleep(seconds)
        return 7

    lazy = Lazy(factory)
    thread = threading.Thread(target=lazy.get)
    thread.start()
    assert entered.wait(30)
    return lazy, thread


def test_waiting_is_bounded_in_threads_and_in_tasks():
    """ "They wait at most `timeout` seconds, then they get WaitTimeout"; it is a TimeoutError."""
    lazy, thread = held_up()
    begin = time.monotonic()
    with pytest.raises(WaitTimeout):
        lazy.get(timeout=0.05)
    with pytest.raises(TimeoutError):
        asyncio.run(aget(lazy, timeout=0.05))
    assert time.monotonic() - begin < 0.9
    thread.join()
    assert lazy.get(timeout=0) == 7 and asyncio.run(aget(lazy, timeout=0)) == 7


def test_a_signal_ends_the_wait():
    """ "Ctrl-C ends the wait"."""
    # Who starts the tests in the background may have them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    lazy, thread = held_up()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            lazy.get()
        assert time.monotonic() - begin < 0.9
        timer.join(), thread.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_class_may_bound_the_waiting():
    """ "or as long as the class or the decorator says"."""
    entered, go = threading.Event(), threading.Event()

    class Single(ThreadSafeSingleton, timeout=0.05):
        def __init__(self):
            entered.set()
            assert go.wait(30)

    thread = threading.Thread(target=Single.instance)
    thread.start()
    assert entered.wait(30)
    with pytest.raises(WaitTimeout):
        Single.instance()
    with pytest.raises(WaitTimeout):
        asyncio.run(Single.get_instance())
    go.set()
    thread.join()
    assert Single.instance(timeout=1)


def test_a_timeout_must_be_a_number_of_seconds():
    with pytest.raises(ValueError):
        Lazy(object, timeout=float("nan"))
    lazy = Lazy(object)
    with pytest.raises(ValueError):
        lazy.get(timeout=float("nan"))
    with pytest.raises(ValueError):
        asyncio.run(aget(lazy, timeout=float("nan")))
    with pytest.raises(TypeError):
        lazy.get(1)
    assert lazy.get(timeout=1e300) is lazy.get()


def test_a_loop_goes_on_while_a_task_waits():
    """ "`get_instance()` never blocks its event loop": another task of the loop ticks meanwhile."""
    lazy, thread = held_up(0.3)

    async def main():
        waiting = asyncio.create_task(aget(lazy))
        ticks = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert await waiting == 7
        return ticks

    assert asyncio.run(main()) >= 5
    thread.join()


def test_a_loop_that_closed_while_it_waited_stops_nobody():
    """ "An event loop that is closed while a task of it waits stops nobody"."""
    entered, go = threading.Event(), threading.Event()

    def factory():
        entered.set()
        assert go.wait(30)
        return 7

    lazy = Lazy(factory)

    def wait_and_close():
        assert entered.wait(30)
        loop = asyncio.new_event_loop()
        task = loop.create_task(aget(lazy))
        loop.run_until_complete(asyncio.sleep(0.01))
        assert not task.done()
        loop.close()
        go.set()
        return task

    made, _task = run_together(lazy.get, wait_and_close)
    assert made == 7


def test_a_value_that_needs_itself_is_an_error_at_once():
    """ "A call that would wait for itself raises ReentrantError at once"."""

    class Single(ThreadSafeSingleton):
        def __init__(self):
            Single.instance()

    class Nested(ThreadSafeSingleton):
        def __init__(self):
            asyncio.run(nested())

    async def nested():
        await Nested.get_instance()

    class Late(ThreadSafeSingleton):
        async def __ainit__(self):
            await Late.get_instance()

    for call in (
        Single.instance,
        lambda: asyncio.run(Single.get_instance()),
        Nested.instance,
        lambda: asyncio.run(Late.get_instance()),
    ):
        with pytest.raises(ReentrantError):
            call()


def test_a_thread_does_not_block_the_loop_that_makes_the_value():
    """ "a thread that would block the event loop on which the value is being made" gets ReentrantError."""

    async def make():
        await asyncio.sleep(0.05)
        return 1

    lazy = Lazy(make)

    async def main():
        making = asyncio.create_task(aget(lazy))
        await asyncio.sleep(0.01)
        with pytest.raises(ReentrantError):
            lazy.get()
        return await making

    assert asyncio.run(main()) == 1


def test_makers_that_need_each_other_do_not_deadlock():
    """ "makers that wait for one another": two threads, and a loop with a thread."""
    for first_is_async in (False, True):
        entered = {name: threading.Event() for name in ("first", "second")}

        def meet(name, other):
            entered[name].set()
            assert entered[other].wait(30)

        async def make_first():
            meet("first", "second")
            return await second.aget()

        def make_first_here():
            meet("first", "second")
            return second.get()

        def make_second():
            meet("second", "first")
            return first.get()

        first = Lazy(make_first if first_is_async else make_first_here)
        second = Lazy(make_second)

        def outcome(call):
            try:
                return call()
            except (ReentrantError, TypeError) as error:
                return type(error)

        get_first = (lambda: asyncio.run(aget(first))) if first_is_async else first.get
        got = run_together(lambda: outcome(get_first), lambda: outcome(second.get), timeout=30)
        assert ReentrantError in got


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_the_child_makes_it_anew():
    """ "In a child after a fork, what another thread was making is made anew"."""
    entered, go = threading.Event(), threading.Event()

    def factory():
        entered.set()
        if os.getpid() == parent:
            assert go.wait(30)
        return os.getpid()

    parent = os.getpid()
    lazy = Lazy(factory)
    thread = threading.Thread(target=lazy.get)
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if lazy.get(timeout=10) == os.getpid() else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert lazy.get() == parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_maker_that_forks_finishes_in_both_processes():
    """ "a maker that forks itself goes on in both processes"."""
    pids = []

    def factory():
        pids.append(os.fork())
        return os.getpid()

    lazy = Lazy(factory)
    value = lazy.get()
    if pids[0] == 0:
        try:
            os._exit(0 if value == os.getpid() == lazy.get(timeout=5) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(pids[0], 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert value == os.getpid()


def test_a_thread_that_waits_does_not_hold_the_exit_of_the_interpreter():
    """ "A daemon thread that waits while the interpreter ends does not keep it from ending"."""
    code = """
import threading, time
import raceproof
entered = threading.Event()
def factory():
    entered.set()
    time.sleep(60)
lazy = raceproof.Lazy(factory)
threading.Thread(target=lazy.get, daemon=True).start()
entered.wait()
for _ in range(4):
    threading.Thread(target=lazy.get, daemon=True).start()
time.sleep(0.2)
print("end")
"""
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
        assert (ended.returncode, ended.stdout) == (0, "end\n"), ended.stderr
