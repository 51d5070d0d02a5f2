"""How a task waits for an AsyncLock: what only code that knows the event loop can do.

The queue, and who comes next, is native: see crates/primitives/src/async_lock.rs.
"""

import asyncio
import time

from raceproof._native import WaitTimeout


async def acquire(lock):
    """Waits for the lock without a limit."""
    await _wait(lock, None)
    return True


async def acquire_within(lock, timeout):
    """Waits for the lock at most `timeout` seconds, then raises WaitTimeout."""
    began = time.monotonic()
    if not await _wait(lock, timeout):
        raise _wait_timeout(lock, time.monotonic() - began)
    return True


async def _wait(lock, timeout):
    """True when the lock is held, False after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    place = None
    while True:
        future = loop.create_future()
        place = lock._enlist(loop, future, place)
        if place is None:
            return True
        timer = None
        try:
            if deadline is not None:
                timer = loop.call_at(deadline, _resolve, future, False)
            in_time = await future
        except BaseException:
            place.leave()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if place.resume():
            return True
        if not in_time:
            place.leave()
            return False


def wake(loop, future):
    """Wakes a task that waits; False if its loop is closed."""
    try:
        if asyncio._get_running_loop() is loop:
            _resolve(future, True)
        else:
            loop.call_soon_threadsafe(_resolve, future, True)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


def is_loop_running():
    """Does an event loop run in this thread?"""
    return asyncio._get_running_loop() is not None


def _resolve(future, in_time):
    if not future.done():
        future.set_result(in_time)


def _wait_timeout(lock, waited):
    holder = lock.holder
    by = "its holder has just left" if holder is None else f"it is held on thread {holder[1] or holder[0]}"
    name = "AsyncLock" if lock.name is None else f"AsyncLock '{lock.name}'"
    error = WaitTimeout(f"{name} was not to be had within {waited:.3f} s: {by}")
    error.name, error.holder, error.held_for, error.waited = lock.name, holder, None, waited
    return error
