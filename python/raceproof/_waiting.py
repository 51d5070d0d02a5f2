"""How a task takes part in making something once: it makes it, or waits for who does, and never blocks its event loop.

What has to be done is decided in Rust; this is the part that needs `await`.
"""

import asyncio
import time

from raceproof._native import WaitTimeout


def _settle(future):
    if not future.done():
        future.set_result(None)


async def take_part(begin, make, timeout):
    """Returns what `begin(task)` says is there, or else what `make()` makes, or what another makes meanwhile.

    `make` may be async. What it raises is raised here; the flight decides who else gets it.
    """
    task = id(asyncio.current_task())
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        value, flight = begin(task)
        if flight is None:
            return value
        if flight.is_mine:
            return await _make(flight, make)
        await _landing(flight, task, until)
        result = flight.result()
        if result is not None:
            return result[0]


async def _make(flight, make):
    try:
        value = make()
        if asyncio.iscoroutine(value):
            value = await value
    except BaseException as error:
        flight.fail(error)
        raise
    flight.land(value)
    return value


async def _landing(flight, task, until):
    """Waits until the flight has landed, parked as a future of the running loop."""
    loop = asyncio.get_running_loop()
    landed = loop.create_future()

    def wake():
        try:
            loop.call_soon_threadsafe(_settle, landed)
        except RuntimeError:
            pass  # The loop is closed: nobody waits there any more.

    ticket = flight.join(task, wake)
    timer = None if until is None else loop.call_later(until - time.monotonic(), _expire, landed)
    try:
        await landed
    finally:
        ticket.leave()
        if timer is not None:
            timer.cancel()


def _expire(future):
    if not future.done():
        future.set_exception(WaitTimeout("another caller's attempt took longer than the timeout"))
